//! Synchronisation that hardware-proven kernels use: clean as it is, named with one piece less.

use std::sync::Arc;

use ptx::tensor_map::{ElementType, TensorMap};
use ptx::{Gpu, Hazard, HazardKind, Launch, Module, Options, Report};

const SEEDS: u64 = 16;

/// A kernel `k` of one pointer, to 64 words that are 0, and how it is launched.
#[derive(Clone, Copy)]
pub struct Pattern {
    pub shared: &'static str,
    pub body: &'static str,
    pub grid: u32,
    pub block: u32,
    pub cluster: u32,
    /// Whether `%map` is the address of a tensor map of 32 words at `%out`, in global memory.
    pub map: bool,
}

pub const ONE_WARP: Pattern = Pattern { shared: "", body: "", grid: 1, block: 32, cluster: 1, map: false };

impl Pattern {
    /// Runs it with `from` replaced by `to`; what came of it, and the words.
    pub fn run(&self, options: Options, from: &str, to: &str) -> (Report, Vec<u32>) {
        let one = self.run_with(Options { threads: 1, ..options.clone() }, from, to);
        if self.grid > self.cluster {
            let five = self.run_with(Options { threads: 5, ..options }, from, to);
            assert_eq!(format!("{one:?}"), format!("{five:?}"), "`{from}` -> `{to}`: on one thread and on five");
        }
        one
    }

    fn run_with(&self, options: Options, from: &str, to: &str) -> (Report, Vec<u32>) {
        assert!(self.body.contains(from), "`{from}` is not in the kernel");
        let source = format!(
            ".version 8.4\n.target sm_90a\n.address_size 64\n{}\n.visible .entry k(.param .u64 out, .param .u64 map) {{
             .reg .b32 %r<24>, %t, %lane, %warp, %cta; .reg .b64 %rd<16>, %out, %mine, %map; .reg .pred %p<8>, %first, %lane0;
             ld.param.u64 %out, [out]; ld.param.u64 %map, [map]; mov.u32 %t, %tid.x; mul.wide.u32 %mine, %t, 4;
             add.u64 %mine, %out, %mine; mov.u32 %cta, %ctaid.x; and.b32 %lane, %t, 31; shr.u32 %warp, %t, 5;
             setp.eq.u32 %first, %t, 0; setp.eq.u32 %lane0, %lane, 0;
             {}
             ret; }}",
            self.shared,
            self.body.replacen(from, to, 1)
        );
        let module = Module::parse("pattern.ptx", &source).unwrap_or_else(|e| panic!("{e}\n{source}"));
        let mut gpu = Gpu::new(options);
        let module = gpu.load(Arc::new(module)).unwrap();
        let (out, map) = (gpu.alloc(256).unwrap(), gpu.alloc(128).unwrap());
        gpu.fill(out, 0, 256).unwrap();
        if self.map {
            let tensor = TensorMap::dense(ElementType::U32, out, &[32], &[32]);
            gpu.write(map, &tensor.encode().unwrap()).unwrap();
        }
        let launch = Launch::new(module, "k").grid(self.grid).block(self.block).cluster(self.cluster);
        let report = gpu.launch(&launch.arg(out).arg(map));
        let words = gpu.read(out, 256).unwrap().chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
        (report, words)
    }

    /// Nothing may be wrong under any seed, by the letter too.
    pub fn clean(&self, check: impl Fn(&[u32]) -> bool) {
        for seed in 0..SEEDS {
            let (report, words) = self.run(Options::pedantic(seed), "", "");
            report.clean().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert!(check(&words), "seed {seed}: {words:?}");
        }
    }

    /// With `from` replaced, hazards of `kind` are met under every seed.
    pub fn named(&self, from: &str, to: &str, kind: HazardKind) {
        for seed in 0..SEEDS {
            let (report, _) = self.run(Options { seed, ..Options::default() }, from, to);
            let found = |h: &Hazard| h.kind == kind;
            assert!(report.hazards.iter().any(found), "`{from}` -> `{to}`, seed {seed}: {kind:?} expected, {report:?}");
        }
    }

    /// With `from` replaced, only strict hazards are met, one of `kind` among them, under every seed.
    pub fn strict(&self, from: &str, to: &str, kind: HazardKind) {
        for seed in 0..SEEDS {
            let (report, _) = self.run(Options { seed, ..Options::default() }, from, to);
            assert!(report.is_clean(), "`{from}` -> `{to}`, seed {seed}: {report:?}");
            assert!(report.strict.iter().any(|h| h.kind == kind), "`{from}` -> `{to}`, seed {seed}: {:?}", report.strict);
        }
    }
}

#[test]
fn every_init_fence_counts_for_a_relaxed_arrival() {
    let pattern = Pattern {
        shared: ".shared .align 8 .b64 one; .shared .align 8 .b64 two;",
        grid: 2,
        block: 64,
        cluster: 2,
        body: "@%first mbarrier.init.shared::cta.b64 [one], 1;
            fence.mbarrier_init.release.cluster;
            @%first mbarrier.init.shared::cta.b64 [two], 1;
            @%first fence.mbarrier_init.release.cluster;
            barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.acquire.aligned;
            mov.u32 %r1, %cluster_ctarank; xor.b32 %r1, %r1, 1; mov.u32 %r2, one; mov.u32 %r3, two;
            mapa.shared::cluster.u32 %r4, %r2, %r1; mapa.shared::cluster.u32 %r5, %r3, %r1;
            @%first mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r4];
            @%first mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r5];
            V: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p1, [one], 0; @!%p1 bra V;
            W: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p1, [two], 0; @!%p1 bra W;
            barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;",
        ..ONE_WARP
    };
    pattern.clean(|_| true);
    pattern.named("@%first fence.mbarrier_init.release.cluster;", "", HazardKind::MbarrierUnpublished);
    // The fence of another thread is none.
    pattern.named("@%first fence", "@!%first fence", HazardKind::MbarrierUnpublished);
}

#[test]
fn a_fence_before_a_relaxed_cluster_arrival() {
    let pattern = Pattern {
        shared: ".shared .align 4 .b32 cell;",
        grid: 2,
        cluster: 2,
        body: "mov.u32 %r1, %cluster_ctarank; xor.b32 %r2, %r1, 1; mov.u32 %r3, cell; mapa.shared::cluster.u32 %r4, %r3, %r2;
            add.u32 %r1, %r1, 5; @%first st.shared.u32 [cell], %r1;
            fence.acq_rel.cluster;
            barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.acquire.aligned;
            ld.shared::cluster.u32 %r5, [%r4]; mul.wide.u32 %rd1, %r2, 4; add.u64 %rd1, %out, %rd1;
            @%first st.global.u32 [%rd1], %r5;
            barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;",
        ..ONE_WARP
    };
    pattern.clean(|w| w[..2] == [5, 6]);
    pattern.named("fence.acq_rel.cluster;", "", HazardKind::SharedRace);
    pattern.strict("fence.acq_rel.cluster;", "fence.acq_rel.cta;", HazardKind::SharedRace);
    // What is written behind the fence is not published.
    let late = "fence.acq_rel.cluster; @%first st.shared.u32 [cell], %r1;";
    pattern.named("fence.acq_rel.cluster;", late, HazardKind::SharedRace);
}

#[test]
fn a_fence_beside_relaxed_operations_of_an_mbarrier() {
    let pattern = Pattern {
        shared: ".shared .align 8 .b64 bar; .shared .align 4 .b32 cell;",
        block: 64,
        body: "@%first mbarrier.init.shared::cta.b64 [bar], 1; bar.sync 0;
            setp.ne.u32 %p2, %t, 32; @%p2 bra WAIT;
            st.shared.u32 [cell], 7;
            fence.acq_rel.cta;
            mbarrier.arrive.relaxed.cta.shared::cta.b64 _, [bar];
            WAIT: mbarrier.try_wait.parity.relaxed.cta.shared::cta.b64 %p1, [bar], 0; @!%p1 bra WAIT;
            fence.acq_rel.cta ;
            ld.shared.u32 %r1, [cell]; @%first st.global.u32 [%out], %r1;",
        ..ONE_WARP
    };
    pattern.clean(|w| w[0] == 7);
    pattern.named("fence.acq_rel.cta;", "", HazardKind::SharedRace);
    pattern.strict("fence.acq_rel.cta ;", "", HazardKind::SharedRace);
}

/// `%u`, `%v` (32 bits), `%w` (64) and `%q` (a predicate) are undefined.
fn with_undefined(body: &str) -> Report {
    let text = format!(
        ".reg .b32 %u, %v; .reg .b64 %w; .reg .pred %q, %yes, %no;
         mov.u32 %r0, 0; setp.eq.u32 %yes, %r0, 0; setp.ne.u32 %no, %r0, 0; mov.u32 %r1, 0; mov.u64 %rd1, 0; setp.ne.u32 %p1, %r0, 0;
         {body}
         @%p1 st.global.u32 [%mine], %r0; st.global.u32 [%mine], %r1; st.global.u64 [%out], %rd1;"
    );
    let pattern = Pattern { body: text.leak(), block: 1, ..ONE_WARP };
    pattern.run(Options::pedantic(1), "", "").0
}

#[test]
fn what_is_defined_whatever_an_operand_holds() {
    let defined = [
        "and.pred %p1, %no, %q;",
        "or.pred %p1, %q, %yes;",
        "setp.lt.s32 %p2, %u, 5; or.pred %p1, %p2, %yes;",
        "setp.lt.and.s32 %p1, %u, 5, %no;",
        "setp.ge.or.f32 %p1, %u, %v, %yes;",
        "setp.ge.u32 %p1, %u, 0;",
        "setp.gt.u32 %p1, %u, 0xffffffff;",
        "setp.gt.u64 %p1, %w, 0xffffffffffffffff;",
        "setp.eq.u32 %p1, %u, %u;",
        "and.b32 %r1, %u, 0;",
        "or.b32 %r1, %u, 0xffffffff;",
        "and.b64 %rd1, %w, 0;",
        "xor.b32 %r1, %u, %u;",
        "lop3.b32 %r1, %u, %r0, %r0, 0xcc;",
        "lop3.b32 %r1, %u, %v, %r0, 0x0;",
        "mul.lo.u32 %r1, %u, 0;",
        "mad.lo.u32 %r1, %u, 0, 7;",
        "mul.wide.u32 %rd1, %u, 0;",
        "shl.b32 %r1, %u, 32;",
        "shr.u32 %r1, %u, 40;",
        "shl.b32 %r1, 0, %u;",
        "min.u32 %r1, %u, 0;",
        "max.u32 %r1, %u, 0xffffffff;",
        "selp.b32 %r1, 3, 3, %q;",
        "selp.b32 %r1, 3, %u, %yes;",
        "selp.b64 %rd1, %w, 4, %no;",
        "slct.b32.s32 %r1, 5, 5, %u;",
        "prmt.b32 %r1, 0x01020304, %u, 0x3210;",
        "prmt.b32 %r1, %u, 0x01020304, 0x7654;",
        "bfe.u32 %r1, %u, 4, 0;",
        "bfi.b32 %r1, %u, 9, 0, 0;",
        "bfi.b32 %r1, 9, %u, 0, 32;",
        "rem.u32 %r1, %u, 1;",
        "vote.sync.any.pred %p1, %yes, 1;",
    ];
    for text in defined {
        let report = with_undefined(text);
        assert!(report.is_clean(), "{text}: {:?}", report.hazards);
    }
    let undefined = [
        "and.pred %p1, %yes, %q;",
        "or.pred %p1, %q, %no;",
        "xor.pred %p1, %q, %yes;",
        "setp.lt.s32 %p1, %u, 5;",
        "setp.eq.u32 %p1, %u, 12345;",
        "setp.ne.u32 %p1, %u, 77;",
        "setp.eq.u64 %p1, %w, 0x123456789abcdef;",
        "setp.eq.f32 %p1, %u, 0f3f9d70a4;",
        "setp.lt.and.s32 %p1, %u, 5, %yes;",
        "setp.eq.u32 %p1, %u, %v;",
        "testp.infinite.f32 %p1, %u;",
        "and.b32 %r1, %u, 0x400;",
        "or.b32 %r1, %u, 0xfffffffe;",
        "xor.b32 %r1, %u, %v;",
        "lop3.b32 %r1, %u, %v, %r0, 0x3c;",
        "lop3.b32 %r1, %u, %r0, %r0, 0xf0;",
        "mul.lo.u32 %r1, %u, 0x80000000;",
        "shr.u32 %r1, %u, 31;",
        "shl.b32 %r1, 1, %u;",
        "min.u32 %r1, %u, 1;",
        "selp.b32 %r1, 3, 4, %q;",
        "selp.b32 %r1, 3, %u, %no;",
        "prmt.b32 %r2, 0x01020304, %u, 0x3217; setp.eq.u32 %p1, %r2, 0x01020305;",
        "bfe.u32 %r1, %u, 31, 1;",
        "bfi.b32 %r1, 9, %u, 0, 31;",
        "add.u32 %r1, %u, 1;",
        "mul.wide.u32 %rd1, %u, 1;",
        "popc.b32 %r1, %u;",
        "vote.sync.any.pred %p1, %q, 1;",
    ];
    for text in undefined {
        let report = with_undefined(text);
        let found = report.hazards.iter().any(|h| h.kind == HazardKind::UninitializedRead);
        assert!(found, "{text}: {report:?}");
    }
}

#[test]
fn of_a_word_that_is_half_written_the_half_is_defined() {
    let run = |body: &str| {
        let text = format!("st.shared.u16 [words], 7; st.shared.u8 [words+6], 1; ld.shared.u32 %r1, [words]; {body}");
        let shared = ".shared .align 16 .b8 words[16];";
        Pattern { shared, body: text.leak(), block: 1, ..ONE_WARP }.run(Options::pedantic(1), "", "")
    };
    let defined = [
        "and.b32 %r2, %r1, 0xffff; st.global.u32 [%out], %r2;",
        "cvt.u32.u16 %r2, %r1; st.global.u32 [%out], %r2;",
        "shl.b32 %r2, %r1, 16; shr.u32 %r2, %r2, 16; st.global.u32 [%out], %r2;",
        "prmt.b32 %r2, %r1, 0, 0x4410; st.global.u32 [%out], %r2;",
        "bfe.u32 %r2, %r1, 0, 8; st.global.u32 [%out], %r2;",
        "ld.shared.u64 %rd1, [words]; shr.u64 %rd1, %rd1, 48; and.b64 %rd1, %rd1, 0xff; add.u64 %rd1, %rd1, 6; st.global.u32 [%out], %rd1;",
        ".reg .b16 %h, %g; mov.b32 {%h, %g}, %r1; cvt.u32.u16 %r2, %h; st.global.u32 [%out], %r2;",
        "and.b32 %r2, %r1, 4; setp.ne.u32 %p1, %r2, 0; @%p1 st.global.u32 [%out], 7;",
        // Padding is copied.
        "st.global.u32 [%out], %r1; ld.global.u16 %r2, [%out]; cvt.u32.u16 %r2, %r2; st.global.u32 [%out], %r2;",
    ];
    for text in defined {
        let (report, words) = run(text);
        assert!(report.is_clean() && words[0] == 7, "{text}: {:?} {:?}", report.hazards, words[0]);
    }
    let undefined = [
        "and.b32 %r2, %r1, 0x1ffff; setp.eq.u32 %p1, %r2, 7; @%p1 st.global.u32 [%out], 7;",
        "shr.u32 %r2, %r1, 16; st.global.u16 [%out], %r2;",
        "shr.s32 %r2, %r1, 31; st.global.u32 [%out], %r2;",
        "add.u32 %r2, %r1, 1; st.global.u32 [%out], %r2;",
        "prmt.b32 %r2, %r1, 0, 0x2222; st.global.u32 [%out], %r2;",
        "st.shared.u32 [words+8], %r1; ld.shared.u16 %r2, [words+10]; st.global.u16 [%out], %r2;",
        "ld.shared.s16 %r2, [words+2]; shr.u32 %r2, %r2, 24; st.global.u8 [%out], %r2;",
    ];
    for text in undefined {
        let (report, _) = run(text);
        let found = report.hazards.iter().any(|h| h.kind == HazardKind::UninitializedRead);
        assert!(found, "{text}: {report:?}");
    }
}

#[test]
fn a_warp_arrives_at_a_barrier_and_then_waits_there() {
    // The warps take turns; the first primes its own barrier.
    let turns = Pattern {
        shared: ".shared .align 4 .b32 count;",
        block: 64,
        body: "add.u32 %r1, %warp, 1; sub.u32 %r2, 2, %warp; @%first st.shared.u32 [count], 0; bar.sync 0;
            setp.ne.u32 %p1, %warp, 0; @%p1 bra GO;
            bar.arrive 1, 64;
            GO: mov.u32 %r3, 0;
            L: bar.sync %r1, 64;
            @!%lane0 bra N; ld.shared.u32 %r4, [count]; add.u32 %r4, %r4, 1; st.shared.u32 [count], %r4; N:
            bar.warp.sync 0xffffffff;
            add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, 3; not.pred %p4, %p1; or.pred %p3, %p2, %p4;
            @%p3 bar.arrive %r2, 64;
            @%p2 bra L;
            bar.sync 0; ld.shared.u32 %r4, [count]; @%first st.global.u32 [%out], %r4;",
        ..ONE_WARP
    };
    turns.clean(|w| w[0] == 6);
    turns.named("bar.arrive 1, 64;", "", HazardKind::Deadlock);
    turns.named("@%p3 bar.arrive %r2, 64;", "", HazardKind::Deadlock);
    // As FlashAttention-3's warpgroups do: the last turn is given to nobody.
    turns.strict("@%p3 bar.arrive %r2, 64;", "bar.arrive %r2, 64;", HazardKind::UnfinishedPhase);
    turns.named("bar.arrive 1, 64;", "bar.arrive 1, 64; bar.arrive 1, 64;", HazardKind::BarrierDivergence);
    // Both arrivals are the same warp's: it has learned nothing of the other.
    let alone = Pattern {
        shared: ".shared .align 4 .b32 cell;",
        block: 64,
        body: "setp.ne.u32 %p1, %warp, 0; @%p1 bra OTHER;
            bar.arrive 1, 64; bar.sync 1, 64; ld.shared.u32 %r1, [cell]; @%lane0 st.global.u32 [%out], %r1; bra END;
            OTHER: @%lane0 st.shared.u32 [cell], 1; END:",
        ..ONE_WARP
    };
    let seen = |seed| {
        let (report, _) = alone.run(Options { seed, ..Options::default() }, "", "");
        report.hazards.iter().any(|h| matches!(h.kind, HazardKind::SharedRace | HazardKind::UninitializedRead))
    };
    assert!((0..SEEDS).all(seen));
}

#[test]
fn a_converged_warp_issues_one_bulk_store() {
    let pattern = Pattern {
        shared: ".shared .align 128 .b8 tile[128];",
        body: "mov.u32 %r1, tile; shl.b32 %r2, %lane, 2; add.u32 %r3, %r1, %r2;
            st.shared.u32 [%r3], %t;
            fence.proxy.async.shared::cta;
            bar.warp.sync 0xffffffff;
            cp.async.bulk.global.shared::cta.bulk_group [%out], [%r1], 128;
            cp.async.bulk.commit_group;
            cp.async.bulk.wait_group.read 0;
            st.shared.u32 [%r3], 9;",
        ..ONE_WARP
    };
    pattern.clean(|w| (0..32).all(|i| w[i] == i as u32));
    pattern.named("bar.warp.sync 0xffffffff;", "", HazardKind::SharedRace);
    pattern.named("fence.proxy.async.shared::cta;", "", HazardKind::MissingProxyFence);
    pattern.named("cp.async.bulk.wait_group.read 0;", "", HazardKind::InFlight);
    // A reduction is one for a card and 32 for the ISA.
    let copy = "cp.async.bulk.global.shared::cta.bulk_group";
    let reduce = "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32";
    pattern.strict(copy, reduce, HazardKind::UndefinedBehavior);
    let (_, words) = pattern.run(Options::default(), copy, reduce);
    assert!((0..32).all(|i| words[i] == i as u32), "{words:?}");
    // Lanes with operands of their own issue copies of their own.
    let own = Pattern {
        shared: ".shared .align 128 .b8 tile[512];",
        block: 8,
        body: "mov.u32 %r1, tile; shl.b32 %r2, %lane, 4; add.u32 %r3, %r1, %r2; cvt.u64.u32 %rd1, %r2; add.u64 %rd1, %out, %rd1;
            st.shared.v4.u32 [%r3], {%t, %t, %t, %t};
            fence.proxy.async.shared::cta;
            cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r3], 16;
            cp.async.bulk.commit_group;
            cp.async.bulk.wait_group 0;",
        ..ONE_WARP
    };
    own.clean(|w| (0..32).all(|i| w[i] == i as u32 / 4));
}

/// A warp changes a map in shared memory, copies it out and uses it; then the same with a second one.
const MAPS: &str = "mov.u32 %r1, smap; mov.u32 %r2, tile; shl.b32 %r3, %lane, 2; add.u32 %r4, %r1, %r3;
    add.u64 %rd1, %map, 0; mul.wide.u32 %rd2, %lane, 4; add.u64 %rd3, %rd1, %rd2;
    ld.global.u32 %r5, [%rd3]; st.shared.u32 [%r4], %r5; st.global.u32 [%mine], %lane;
    fence.proxy.async.global; mov.u64 %rd5, scratch; cvt.u64.u32 %rd4, %r1; add.u64 %rd6, %rd5, 128; bar.warp.sync 0xffffffff;
    @%first tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%rd4], %out;
    bar.warp.sync 0xffffffff ;
    tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd5], [%rd4], 128;
    fence.proxy.tensormap::generic.acquire.gpu [%rd5], 128;
    @%first tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%rd4], %out;
    bar.warp.sync 0xffffffff;
    tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd6], [%rd4], 128;
    fence.proxy.tensormap::generic.acquire.gpu [%rd6], 128;
    @!%first bra W;
    mbarrier.init.shared::cta.b64 [full], 1; fence.mbarrier_init.release.cluster;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [full], 256; mov.u32 %r6, 0; add.u32 %r7, %r2, 128; mov.u32 %r8, full;
    cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r2], [%rd5, {%r6}], [%r8];
    cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r7], [%rd6, {%r6}], [%r8];
    W: bar.warp.sync 0xffffffff;
    T: mbarrier.try_wait.parity.shared::cta.b64 %p2, [full], 0; @!%p2 bra T;
    add.u32 %r9, %r2, %r3; ld.shared.u32 %r10, [%r9]; ld.shared.u32 %r11, [%r9+128]; add.u32 %r10, %r10, %r11;
    st.global.u32 [%mine+128], %r10;";

#[test]
fn two_maps_are_released_by_a_warp() {
    let pattern = Pattern {
        shared: ".shared .align 128 .b8 smap[128]; .shared .align 128 .b8 tile[256]; .shared .align 8 .b64 full;
            .global .align 128 .b8 scratch[256];",
        map: true,
        body: MAPS,
        ..ONE_WARP
    };
    pattern.clean(|w| (0..32).all(|i| w[32 + i] == 2 * i as u32));
    let acquire = |map: &str| format!("fence.proxy.tensormap::generic.acquire.gpu [{map}], 128;");
    pattern.named(&acquire("%rd5"), "", HazardKind::MissingProxyFence);
    pattern.named(&acquire("%rd6"), "", HazardKind::MissingProxyFence);
    pattern.named("bar.warp.sync 0xffffffff ;", "", HazardKind::SharedRace);
    // An acquire before the release shows nothing.
    let early = format!("{} tensormap.cp_fenceproxy", acquire("%rd6"));
    let body = MAPS.replacen(&acquire("%rd6"), "", 1).leak();
    let second = body.rfind("tensormap.cp_fenceproxy").unwrap();
    let body = format!("{}{early}{}", &body[..second], &body[second + "tensormap.cp_fenceproxy".len()..]).leak();
    Pattern { body, ..pattern }.named("", "", HazardKind::MissingProxyFence);
}

#[test]
fn each_warp_of_a_wgmma_reads_its_own_rows_of_a() {
    // Ones times ones; each warp writes its 16 rows of A (512 bytes), all see B.
    let pattern = Pattern {
        shared: ".shared .align 128 .b8 tiles[2304];",
        block: 128,
        body: ".reg .b64 %da, %db; .reg .pred %never; .reg .f32 %f<4>;
            mov.u32 %r1, tiles; setp.ge.u32 %p1, %t, 16; shl.b32 %r2, %t, 4; add.u32 %r3, %r1, %r2; mov.u32 %r4, 0x3f803f80;
            @!%p1 st.shared.v4.u32 [%r3+2048], {%r4, %r4, %r4, %r4};
            fence.proxy.async.shared::cta;
            bar.sync 0;
            mov.u32 %r5, %r3;
            st.shared.v4.u32 [%r5], {%r4, %r4, %r4, %r4};
            fence.proxy.async.shared::cta ;
            bar.warp.sync 0xffffffff;
            shr.u32 %r6, %r1, 4; cvt.u64.u32 %da, %r6; add.u64 %db, %da, 128;
            or.b64 %da, %da, 0x0000001000080000; or.b64 %db, %db, 0x0000001000080000;
            setp.ne.u32 %never, %r4, %r4;
            wgmma.fence.sync.aligned;
            wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %da, %db, %never, 1, 1, 0, 0;
            wgmma.commit_group.sync.aligned;
            wgmma.wait_group.sync.aligned 0;
            st.shared.v4.u32 [%r5], {%r4, %r4, %r4, %r4};
            setp.lt.u32 %p2, %t, 64; @%p2 st.global.f32 [%mine], %f3;",
        ..ONE_WARP
    };
    pattern.clean(|w| w.iter().all(|&x| x == 16f32.to_bits()));
    pattern.named("bar.warp.sync 0xffffffff;", "", HazardKind::SharedRace);
    pattern.named("fence.proxy.async.shared::cta ;", "", HazardKind::MissingProxyFence);
    pattern.named("bar.sync 0;", "", HazardKind::SharedRace);
    // Rows of the next warp.
    let next = "xor.b32 %r5, %r2, 512; add.u32 %r5, %r1, %r5;";
    pattern.named("mov.u32 %r5, %r3;", next, HazardKind::SharedRace);
}

#[test]
fn a_long_computation_is_no_livelock() {
    let pattern = Pattern {
        body: "mov.u32 %r1, 0; mov.u32 %r2, 1;
            L: mad.lo.u32 %r2, %r2, 1664525, 1013904223; add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 5100000; @%p1 bra L;
            st.global.u32 [%mine], %r1;",
        ..ONE_WARP
    };
    let (report, words) = pattern.run(Options::default(), "", "");
    report.assert_clean();
    assert_eq!(words[0], 5_100_000);
    // The same without its count comes back to where it was.
    for seed in 0..4 {
        let options = Options { seed, step_limit: 20_000_000, ..Options::default() };
        let (report, _) = pattern.run(options, "add.u32 %r1, %r1, 1; setp", "and.b32 %r2, %r2, 0xff; setp");
        let fault = report.fault.expect("an endless loop").message;
        assert!(fault.contains("livelock") && report.hazards.iter().any(|h| h.kind == HazardKind::Deadlock), "{fault}");
    }
}

#[test]
fn who_polls_waits_for_who_computes_or_sleeps() {
    let pattern = Pattern {
        shared: ".shared .align 4 .b32 flag;",
        block: 128,
        body: "@%first st.shared.u32 [flag], 0; bar.sync 0; setp.ne.u32 %p1, %warp, 0; @%p1 bra POLL;
            mov.u32 %r1, 0; L: add.u32 %r1, %r1, 1; setp.lt.u32 %p2, %r1, 60000; @%p2 bra L;
            @%first st.volatile.shared.u32 [flag], 1; bra END;
            POLL: ld.volatile.shared.u32 %r2, [flag]; setp.eq.u32 %p2, %r2, 0; @%p2 bra POLL;
            END: st.global.u32 [%out], 3;",
        ..ONE_WARP
    };
    let ends = |from: &str, to: &str| {
        for seed in 0..3 {
            let (report, words) = pattern.run(Options { seed, ..Options::default() }, from, to);
            assert_eq!((report.fault.map(|f| f.message), words[0]), (None, 3), "seed {seed}");
        }
    };
    ends("", "");
    ends("mov.u32 %r1, 0;", "mov.u32 %r1, 59999; nanosleep.u32 100;");
    pattern.named("@%first st.volatile.shared.u32 [flag], 1;", "", HazardKind::Deadlock);
    // Who counts its polls, too, waits in vain.
    let counted = "POLL: add.u32 %r5, %r1, 1; mov.u32 %r1, %r5;";
    let body = pattern.body.replacen("POLL:", counted, 1).replacen("setp.ne.u32 %p1", "mov.u32 %r1, 0; setp.ne.u32 %p1", 1);
    let counted = Pattern { body: body.leak(), ..pattern };
    counted.named("@%first st.volatile.shared.u32 [flag], 1;", "", HazardKind::Deadlock);
}
