//! Bugs that were met in real kernels, replayed: each is reported by its name.

use ptx::HazardKind::{self, *};
use ptx::tensor_map::{ElementType, TensorMap};

use crate::cases::wgmma_tile_entry;
use crate::harness::*;
use crate::kernels::describe;

/// Demands that each of some seeds shows one of `kinds`, or, if there are none, a fault that says `fault`.
fn caught(case: &Case, kinds: &[HazardKind], fault: &str) {
    let module = case.module();
    let ends: Vec<End> = (0..6).map(|seed| case.run(&module, seed, Some(3_000_000))).collect();
    let by_name = |end: &End| match end {
        End::Hazards(hazards) => hazards.iter().any(|h| kinds.contains(&h.kind)),
        End::Fault(text, hazards) => {
            (!fault.is_empty() && text.contains(fault)) || hazards.iter().any(|h| kinds.contains(&h.kind))
        }
        _ => false,
    };
    let shown = ends.iter().map(describe).collect::<Vec<_>>().join("\n");
    assert!(ends.iter().all(|end| !end.is_right()), "{}: not seen under every seed\n{shown}", case.entry);
    assert!(ends.iter().any(by_name), "{}: {kinds:?} expected\n{shown}", case.entry);
}

/// A kernel of `bugs.cu` that takes an input and an output of `n` words, or the output alone.
fn words(entry: &'static str, shape: Shape, input: Option<Vec<u32>>, n: usize) -> Case {
    Case::new("bugs", entry, shape, move |gpu, _| {
        let mut params = Params::new();
        if let Some(input) = &input {
            params = params.ptr(upload(gpu, input));
        }
        params = params.ptr(gpu.alloc(4 * n as u64).unwrap());
        Setup { params, check: Box::new(|_| Ok(())) }
    })
}

fn ramp(n: u32) -> Option<Vec<u32>> {
    Some((0..n).collect())
}

#[test]
fn shared_memory_and_barriers() {
    caught(&words("no_barrier", shape(1, 128), None, 128), &[SharedRace], "");
    caught(&words("global_race", shape(2, 128), None, 8), &[GlobalRace], "");
    caught(&words("misaligned", shape(1, 32), ramp(64), 32), &[Misaligned], "misaligned");
    caught(&words("divergent_barrier", shape(1, 128), None, 128), &[BarrierDivergence, Deadlock], "deadlock");
    let absent = [BarrierDivergence, UndefinedBehavior, UninitializedRead];
    caught(&words("shuffle_with_absent_lane", shape(1, 32), None, 32), &absent, "");
    caught(&words("shuffle_across_branches", shape(1, 32), None, 32), &[BarrierDivergence, Deadlock], "deadlock");
    let overrun = Shape { shared: 256, ..shape(1, 128) };
    caught(&words("shared_overrun", overrun, None, 128), &[OutOfBounds], "out of bounds");
    let uninitialised = Case { setup: read_back(None, 128), ..words("uninitialised_shared", shape(1, 128), None, 128) };
    caught(&uninitialised, &[UninitializedRead], "");
}

#[test]
fn one_past_the_end() {
    let case = Case::new("bugs", "one_past_the_end", shape(2, 64), |gpu, _| {
        let params = Params::new().ptr(upload(gpu, &vec![1u32; 100])).ptr(gpu.alloc(400).unwrap()).i32(100);
        Setup { params, check: Box::new(|_| Ok(())) }
    });
    caught(&case, &[OutOfBounds], "out of bounds");
}

type Build = Box<dyn Fn(&mut ptx::Gpu, u64) -> Setup + Send + Sync>;

/// Reads the whole output, as a caller would.
fn read_back(input: Option<Vec<u32>>, n: usize) -> Build {
    Box::new(move |gpu, _| {
        let mut params = Params::new();
        if let Some(input) = &input {
            params = params.ptr(upload(gpu, input));
        }
        let c = gpu.alloc(4 * n as u64).unwrap();
        Setup { params: params.ptr(c), check: Box::new(move |gpu| gpu.read(c, 4 * n).map(|_| ()).map_err(|e| e.to_string())) }
    })
}

#[test]
fn flags() {
    let lost = Case::new("bugs", "lost_flag", shape(1, 64), |gpu, _| {
        let params = Params::new().ptr(upload(gpu, &[0u32])).ptr(gpu.alloc(256).unwrap());
        Setup { params, check: Box::new(|_| Ok(())) }
    });
    caught(&lost, &[Deadlock], "executed more than 3000000");
    let unreleased = Case::new("bugs", "unreleased_message", shape(2, 32), |gpu, _| {
        let params = Params::new().ptr(gpu.alloc(4).unwrap()).ptr(upload(gpu, &[0u32])).ptr(gpu.alloc(4).unwrap());
        Setup { params, check: Box::new(|_| Ok(())) }
    });
    caught(&unreleased, &[GlobalRace], "");
}

#[test]
fn mbarriers() {
    caught(&words("one_lane_arrives_for_32", shape(1, 64), None, 32), &[SharedRace], "");
    caught(&words("mbarrier_never_initialised", shape(1, 32), None, 32), &[MbarrierNotInitialized], "");
    caught(&words("mbarrier_initialised_twice", shape(1, 32), None, 32), &[MbarrierReinit, SharedRace], "");
    caught(&words("mbarrier_too_many_arrivals", shape(1, 32), None, 32), &[MbarrierOverflow, Deadlock], "deadlock");
}

#[test]
fn bulk_copies() {
    let bulk = |entry| words(entry, shape(1, 128), ramp(128), 128);
    caught(&bulk("bulk_expects_too_much"), &[Deadlock], "deadlock");
    caught(&bulk("bulk_expects_too_little"), &[MbarrierOverflow, InFlight, Deadlock], "");
    caught(&bulk("bulk_read_before_arrival"), &[InFlight], "");
    caught(&bulk("bulk_store_without_proxy_fence"), &[MissingProxyFence], "");
}

#[test]
fn tensor_map_update() {
    let case = |entry| {
        Case::new("bugs", entry, shape(1, 64), |gpu, _| {
            let input = upload(gpu, &(0..256).collect::<Vec<u32>>());
            let map = TensorMap::dense(ElementType::U32, input, &[16, 16], &[16, 16]);
            let encoded = map.encode().unwrap();
            let (old, new, out) = (upload(gpu, &encoded), upload(gpu, &encoded), gpu.alloc(256).unwrap());
            Setup {
                params: Params::new().ptr(old).ptr(new).ptr(out),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, out, 64), &(0..64).collect::<Vec<u32>>())),
            }
        })
    };
    caught(&case("map_updated_without_fence"), &[MissingProxyFence], "");
    let right = case("map_updated_with_fence");
    for seed in 0..6 {
        let end = right.run(&right.module(), seed, None);
        assert!(end.is_right(), "{}", describe(&end));
    }
}

#[test]
fn wgmma_misused() {
    caught(&wgmma_tile_entry("wgmma_late_wait"), &[InFlight], "");
    caught(&wgmma_tile_entry("wgmma_no_wait"), &[MissingWait, InFlight, RegisterInFlight], "");
    caught(&wgmma_tile_entry("wgmma_no_fence"), &[MissingWgmmaFence], "");
    caught(&wgmma_tile_entry("wgmma_no_commit"), &[MissingCommit, InFlight, RegisterInFlight], "");
    caught(&wgmma_tile_entry("wgmma_register_touched"), &[RegisterInFlight], "");
    caught(&wgmma_tile_entry("wgmma_wrong_phase"), &[Deadlock], "deadlock");
}

#[test]
fn messages() {
    let run = |entry: &'static str, input: Vec<i32>| {
        let case = Case::new("messages", entry, shape(1, 32), move |gpu, _| Setup {
            params: Params::new().ptr(upload(gpu, &input)),
            check: Box::new(|_| Ok(())),
        });
        case.run(&case.module(), 1, None)
    };
    let mut bad = vec![0i32; 32];
    assert!(run("check", bad.clone()).is_right());
    bad[7] = -1;
    let End::Fault(assertion, _) = run("check", bad.clone()) else { panic!("the assertion holds") };
    assert!(assertion.contains("in[threadIdx.x] >= 0") && assertion.contains("messages.cu"), "{assertion}");
    let End::Fault(trap, _) = run("stop", bad) else { panic!("no trap") };
    assert!(trap.contains("trap"), "{trap}");
}
