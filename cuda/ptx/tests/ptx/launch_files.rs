//! Launch files: what they can say beside buffers and numbers, and that what is written is read as the same.

use std::path::Path;

use ptx::driver::interpreted::{Interpreted, Options};
use ptx::launch::{LaunchError, LaunchFile, Outcome};
use ptx::{FaultKind, HazardKind};
use serde_json::{Value, json};

use crate::ptxi::{Place, tests};

fn read(path: &str) -> Result<LaunchFile, LaunchError> {
    Ok(LaunchFile::read(Path::new(path))?.remove(0))
}

fn run(place: &Place, value: &Value, seed: u64) -> Result<Outcome, LaunchError> {
    let prepared = read(&place.write("launch.json", value))?.prepare()?;
    prepared.run(&mut Interpreted::new(Options { seed, unwritten: true, ..Options::default() }))
}

/// The f32s of a buffer after a run that must be clean, the same for some seeds.
fn floats(place: &Place, value: &Value, name: &str) -> Vec<f32> {
    let once = |seed| {
        let outcome = run(place, value, seed).unwrap_or_else(|e| panic!("{e}"));
        assert!(outcome.fault.is_none() && outcome.hazards.is_empty(), "{:?} {:?}", outcome.fault, outcome.hazards);
        outcome.dumps[name].chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>()
    };
    let first = once(0);
    (1..4).for_each(|seed| assert_eq!(once(seed), first, "seed {seed}"));
    first.into_iter().map(f32::from_bits).collect()
}

fn hex(values: &[f32]) -> String {
    values.iter().flat_map(|v| v.to_le_bytes()).map(|b| format!("{b:02x}")).collect()
}

fn file(entry: &str, block: u32, rest: Value) -> Value {
    let mut value = json!({
        "ptx": tests().join("kernels/launches.ptx"), "entry": entry, "grid": [1, 1, 1], "block": [block, 1, 1], "args": [],
    });
    value.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    value
}

fn all_numbers() -> Value {
    file(
        "add_all",
        1,
        json!({
            "buffers": {"out": {"bytes": 8}}, "dump": {"out": "out.bin"},
            "args": [{"buffer": "out"}, {"u8": 200}, {"i8": -3}, {"u16": 60000}, {"i16": -5}, {"u32": 7}, {"i32": -9}, {"u64": 11},
                {"i64": -13}, {"f16": 0.5}, {"bf16": 0.25}, {"f32": 0.125}, {"f64": 1e-3}, {"u8": 1}],
        }),
    )
}

fn scaled() -> Value {
    file(
        "scale",
        64,
        json!({
            "buffers": {
                "x": {"hex": hex(&[9.0, 1.0, 2.0, 3.0])}, "out": {"bytes": 300},
                "y": {"bytes": 384, "fields": [{"at": 128, "bytes": hex(&[10.0, 20.0, 30.0])}, {"at": 140, "f32": 40},
                    {"at": 144, "bytes": hex(&[0.0; 60])}]},
            },
            "tensor_maps": {"m": {"buffer": "y", "offset": 128, "dtype": "f32", "dims": [64, 1], "strides_bytes": [256],
                "box": [64, 1]}},
            "args": [{"struct": {"bytes": 192, "fields": [{"at": 0, "f32": 1.5}, {"at": 8, "buffer": "x", "offset": 4},
                {"at": 16, "buffer": "out", "offset": 8}, {"at": 24, "i32": 3}, {"at": 64, "tensor_map": "m"}]}}],
            "dump": {"out": "out.bin"},
        }),
    )
}

fn polynomials() -> Value {
    file(
        "polynomial",
        2,
        json!({
            "buffers": {"x": {"hex": hex(&[1.0, 2.0])}, "t": {"hex": hex(&[0.0, 0.0, 100.0, 200.0])}, "a": {"bytes": 8},
                "b": {"bytes": 8}, "c": {"bytes": 8}, "n": {"bytes": 8}},
            "variables": {"coefficients": {"hex": hex(&[1.0, 1.0, 0.0, 0.0])},
                "table": {"fields": [{"at": 0, "buffer": "t", "offset": 8}]}, "calls": {"bytes": 4, "fill": 0}},
            "launches": [
                {"args": [{"buffer": "x"}, {"buffer": "a"}]},
                {"args": [{"buffer": "x"}, {"buffer": "b"}], "variables": {"coefficients": {"fields": [{"at": 12, "f32": 1}]}}},
                {"args": [{"buffer": "x"}, {"buffer": "c"}]},
                {"args": [{"buffer": "n"}], "entry": "read_calls", "block": [1, 1, 1]},
                {"args": [{"variable": "calls"}, {"buffer": "n", "offset": 4}], "entry": "through_pointer", "block": [1, 1, 1]},
            ],
            "dump": {"a": "a.bin", "b": "b.bin", "c": "c.bin", "n": "n.bin"},
        }),
    )
}

#[test]
fn numbers_of_every_type() {
    let place = Place::new("numbers-of-every-type");
    let outcome = run(&place, &all_numbers(), 1).unwrap();
    let sum = f64::from_le_bytes(outcome.dumps["out"][..].try_into().unwrap());
    assert_eq!(sum, 200.0 - 3.0 + 60000.0 - 5.0 + 7.0 - 9.0 + 11.0 - 13.0 + 0.5 + 0.25 + 0.125 + 1e-3 + 1000.0);
    // What JSON has no numbers for.
    for (name, check) in
        [("nan", f64::is_nan as fn(f64) -> bool), ("inf", |v| v == f64::INFINITY), ("-inf", |v| v == f64::NEG_INFINITY)]
    {
        for (i, ty) in [(9, "f16"), (10, "bf16"), (11, "f32"), (12, "f64")] {
            let mut value = all_numbers();
            value["args"][i] = json!({ty: name});
            let outcome = run(&place, &value, 1).unwrap();
            let sum = f64::from_le_bytes(outcome.dumps["out"][..].try_into().unwrap());
            assert!(check(sum), "{ty} {name} gives {sum}");
        }
    }
}

#[test]
fn a_struct_holds_numbers_addresses_and_tensor_maps() {
    let place = Place::new("struct");
    let want = [1.5 * 11.0, 1.5 * 22.0, 1.5 * 33.0];
    assert_eq!(floats(&place, &scaled(), "out")[2..5], want);
    // The same bytes without a word about how many, and with a hexadecimal start.
    let mut other = scaled();
    other["args"][0]["struct"]["hex"] = json!(hex(&[1.5]));
    other["args"][0]["struct"].as_object_mut().unwrap().remove("bytes");
    other["args"][0]["struct"]["bytes"] = json!(192);
    other["args"][0]["struct"]["fields"].as_array_mut().unwrap().remove(0);
    assert_eq!(floats(&place, &other, "out")[2..5], want);
    let mut short = scaled();
    short["args"][0]["struct"].as_object_mut().unwrap().remove("bytes");
    assert_eq!(floats(&place, &short, "out")[2..5], want);
}

#[test]
fn memory_holds_addresses() {
    let place = Place::new("pointers");
    let value = file(
        "sum_rows",
        2,
        json!({
            "buffers": {
                "a": {"hex": hex(&[1.0, 2.0, 3.0, 4.0])}, "b": {"hex": hex(&[10.0, 20.0, 30.0, 40.0])}, "out": {"bytes": 8},
                "rows": {"bytes": 24, "fields": [{"at": 0, "buffer": "b"}, {"at": 8, "buffer": "a"}, {"at": 16, "buffer": "b", "offset": 8}]},
            },
            "args": [{"buffer": "rows"}, {"buffer": "out"}, {"i32": 3}, {"i32": 2}], "dump": {"out": "out.bin"},
        }),
    );
    assert_eq!(floats(&place, &value, "out"), [10.0 + 1.0 + 30.0, 20.0 + 2.0 + 40.0]);
    // A row that is not there is an address that nothing wrote.
    let mut missing = value.clone();
    missing["buffers"]["rows"]["fields"].as_array_mut().unwrap().remove(1);
    let outcome = run(&place, &missing, 0).unwrap();
    assert!(outcome.hazards.iter().any(|h| h.kind == HazardKind::UninitializedRead), "{:?}", outcome.hazards);
}

#[test]
fn variables_are_set_before_a_launch_and_keep_what_is_not_said() {
    let place = Place::new("variables");
    let outcome = run(&place, &polynomials(), 3).unwrap();
    assert!(outcome.fault.is_none() && outcome.hazards.is_empty(), "{:?} {:?}", outcome.fault, outcome.hazards);
    let floats =
        |name: &str| outcome.dumps[name].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>();
    assert_eq!(floats("a"), [100.0 + 2.0, 200.0 + 3.0]);
    // Set for the second launch, it stays.
    assert_eq!(floats("b"), [100.0 + 3.0, 200.0 + 3.0 + 8.0]);
    assert_eq!(floats("c"), floats("b"));
    assert_eq!(outcome.dumps["n"], [3, 0, 0, 0, 3, 0, 0, 0], "counted from 0, not from the 40 of the PTX");
    // Without a word it is what the PTX says.
    let untouched =
        file("read_calls", 1, json!({"buffers": {"n": {"bytes": 4}}, "args": [{"buffer": "n"}], "dump": {"n": "n.bin"}}));
    assert_eq!(run(&place, &untouched, 0).unwrap().dumps["n"], [40, 0, 0, 0]);
}

fn grid_sum(entry: &str, ctas: u32, cooperative: bool) -> Value {
    let ints: String = (0..4 * ctas).map(|i| format!("{:02x}000000", i % 100)).collect();
    file(
        entry,
        4,
        json!({
            "grid": [ctas, 1, 1], "cooperative": cooperative,
            "buffers": {"x": {"hex": ints}, "partial": {"bytes": 4 * ctas}, "out": {"bytes": 16 * ctas}},
            "args": [{"buffer": "x"}, {"buffer": "partial"}, {"buffer": "out"}, {"i32": 4 * ctas}], "dump": {"out": "out.bin"},
        }),
    )
}

#[test]
fn ctas_of_a_cooperative_launch_wait_for_each_other() {
    let place = Place::new("cooperative");
    for seed in 0..4 {
        let outcome = run(&place, &grid_sum("grid_sum", 20, true), seed).unwrap();
        assert!(outcome.fault.is_none() && outcome.hazards.is_empty(), "{:?} {:?}", outcome.fault, outcome.hazards);
        let sum = (0..80u32).sum::<u32>();
        assert_eq!(outcome.dumps["out"], sum.to_le_bytes().repeat(80), "seed {seed}");
        // Without the barrier there is a race, and a grid that is not cooperative has no barrier.
        let outcome = run(&place, &grid_sum("grid_sum_without_barrier", 20, true), seed).unwrap();
        let kinds: Vec<_> = outcome.hazards.iter().map(|h| h.kind).collect();
        let bad = [HazardKind::GlobalRace, HazardKind::UninitializedRead];
        assert!(kinds.iter().any(|k| bad.contains(k)), "{kinds:?}");
        let fault = run(&place, &grid_sum("grid_sum", 20, false), seed).unwrap().fault.unwrap();
        assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
    }
}

#[test]
fn a_cooperative_launch_that_does_not_fit_is_refused_with_the_numbers() {
    let place = Place::new("cooperative-large");
    let message = |change: &dyn Fn(&mut Value)| {
        let mut value = grid_sum("grid_sum", 20, true);
        change(&mut value);
        run(&place, &value, 0).err().map(|e| e.to_string()).unwrap_or_default()
    };
    // 32 CTAs an SM, then as many as have 64 KiB, then as many as have 255 registers for each of 512 threads.
    assert!(message(&|v| v["grid"] = json!([132 * 32 + 1, 1, 1])).contains("4224 are the most"));
    let shared = |v: &mut Value| (v["grid"], v["shared_bytes"]) = (json!([132 * 3 + 1, 1, 1]), json!(65536));
    assert!(message(&shared).contains("396 are the most"), "{}", message(&shared));
    let registers = |v: &mut Value| {
        (v["grid"], v["block"], v["registers"]) = (json!([132 * 4 + 1, 1, 1]), json!([256, 1, 1]), json!(60));
    };
    assert!(message(&registers).contains("528 are the most"), "{}", message(&registers));
    let too_many = |v: &mut Value| (v["block"], v["registers"]) = (json!([1024, 1, 1]), json!(80));
    assert!(message(&too_many).contains("81920; an SM has 65536"), "{}", message(&too_many));
    // Only a cooperative launch needs them at once.
    assert!(message(&|v| (v["grid"], v["cooperative"]) = (json!([133 * 32, 1, 1]), json!(false))).is_empty());
}

#[test]
fn a_launch_is_given_up_after_so_many_steps_or_seconds() {
    let place = Place::new("steps");
    let mut value = grid_sum("grid_sum", 20, true);
    value["step_limit"] = json!(100);
    let fault = run(&place, &value, 0).unwrap().fault.unwrap();
    assert!(fault.kind == FaultKind::StepLimit && fault.to_string().contains("100"), "{fault}");
    value["step_limit"] = json!(1_000_000);
    value["time_limit"] = json!(0);
    let fault = run(&place, &value, 0).unwrap().fault.unwrap();
    assert!(fault.kind == FaultKind::TimeLimit, "{fault}");
    value["time_limit"] = json!(1000);
    assert!(run(&place, &value, 0).unwrap().fault.is_none());
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let place = Place::new("round-trip");
    let mut every = scaled();
    every["cluster"] = json!([1, 1, 1]);
    every["buffers"]["r"] = json!({"bytes": 64, "random": {"dtype": "bf16", "seed": 3, "low": -2.5, "high": 4}, "fields": [
        {"at": 0, "tensor_map_pointer": "m"}, {"at": 8, "variable": "calls", "offset": 2}, {"at": 16, "file": "part.bin"}]});
    every["buffers"]["f"] = json!({"bytes": 64, "fill": 7});
    every["buffers"]["g"] = json!({"file": "whole.bin"});
    every["tensor_maps"]["m"]["oob_fill"] = json!("nan");
    every["tensor_maps"]["m"]["l2_promotion"] = json!("128B");
    every["compare"] = json!({"out": {"dtype": "f32", "abs": 1e-6, "rel": 0.1}, "f": {}});
    every["registers"] = json!(40);
    every["dependent"] = json!(true);
    every["time_limit"] = json!(1.5);
    every["step_limit"] = json!(u64::MAX);
    let mut numbers = all_numbers();
    numbers["args"][11] = json!({"f32": "-inf"});
    numbers["args"][7] = json!({"u64": u64::MAX});
    numbers["args"][8] = json!({"i64": i64::MIN});
    for (i, value) in [every, numbers, polynomials(), grid_sum("grid_sum", 2, true)].iter().enumerate() {
        let file = read(&place.write("launch.json", value)).unwrap_or_else(|e| panic!("{e}"));
        file.write(&file.path).unwrap();
        let again = read(&file.path.display().to_string()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again, file);
        let text = std::fs::read_to_string(&file.path).unwrap();
        let dump = file.dump.values().next().map(|p| p.display().to_string());
        assert!(dump.is_none_or(|path| !text.contains(&path)), "paths below the file are relative: {text}");
        // In another folder the same paths are meant.
        let folder = place.0.join(format!("folder{i}"));
        std::fs::create_dir_all(&folder).unwrap();
        let moved = folder.join("moved.json");
        file.write(&moved).unwrap();
        let again = read(&moved.display().to_string()).unwrap();
        assert_eq!(LaunchFile { path: file.path.clone(), ..again }, file);
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let place = Place::new("misfits");
    let bad = |value: Value, change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut value = value;
        change(&mut value);
        let message = match run(&place, &value, 0) {
            Ok(_) => panic!("nothing is wrong with {value}"),
            Err(e) => e.to_string(),
        };
        assert_eq!(message.lines().count(), 1, "{message}");
        for word in words.iter().chain(&["launch.json"]) {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
    };
    let arg = |i: usize, with: Value| move |v: &mut Value| v["args"][i] = with.clone();
    bad(all_numbers(), &arg(5, json!({"u16": 7})), &["args[5]", "add_all_param_5", ".u32", "u16", "takes 4 bytes, found 2"]);
    bad(all_numbers(), &arg(5, json!({"f32": 7})), &["args[5]", "add_all_param_5", ".u32", "f32", "takes an integer"]);
    bad(all_numbers(), &arg(11, json!({"i32": 7})), &["args[11]", "add_all_param_11", ".f32", "i32", "takes a floating-point"]);
    bad(all_numbers(), &arg(12, json!({"buffer": "out"})), &["args[12]", ".f64", "a buffer's address"]);
    bad(all_numbers(), &arg(1, json!({"u8": 256})), &["args[1].u8", "0 to 255", "256"]);
    bad(all_numbers(), &arg(2, json!({"i8": -129})), &["args[2].i8", "-128 to 127"]);
    bad(all_numbers(), &arg(0, json!({"buffer": "out", "offset": 9})), &["args[0]", "beyond buffer \"out\""]);
    bad(all_numbers(), &arg(1, json!({"u8": 1, "offset": 9})), &["args[1].offset", "only the address"]);
    bad(all_numbers(), &arg(1, json!({"u8": 1, "i8": 1})), &["args[1]", "one of the keys"]);
    bad(all_numbers(), &arg(0, json!({"variable": "nothing"})), &["args[0]", "no module has a variable \"nothing\""]);

    let field = |i: usize, with: Value| move |v: &mut Value| v["args"][0]["struct"]["fields"][i] = with.clone();
    let fields = "args[0].struct.fields[0]";
    bad(scaled(), &field(0, json!({"at": 0, "buffer": "no"})), &[fields, "no buffer is called \"no\""]);
    bad(scaled(), &field(0, json!({"f32": 1})), &[fields, "\"at\" is missing"]);
    bad(scaled(), &field(0, json!({"at": 190, "f32": 1})), &["args[0].fields[0]", "4 bytes at 190", "192"]);
    bad(scaled(), &field(0, json!({"at": 32, "tensor_map": "m"})), &["args[0].fields[0]", "multiple of 64", "32"]);
    bad(scaled(), &|v| v["args"][0]["struct"]["bytes"] = json!(200), &["args[0]", "scale_param_0[192]", "200"]);
    bad(scaled(), &arg(0, json!({"tensor_map": "m"})), &["args[0]", "takes 192 bytes, found 128: a tensor map"]);
    bad(scaled(), &|v| v["buffers"]["x"]["bytes"] = json!(8), &["buffers.x", "16 bytes", "8"]);
    bad(scaled(), &|v| v["buffers"]["x"] = json!({"fields": []}), &["buffers.x", "\"bytes\" is missing"]);
    bad(
        scaled(),
        &|v| v["buffers"]["x"] = json!({"bytes": 4, "fill": 0, "hex": "00"}),
        &["buffers.x", "one of fill, random, file, hex"],
    );

    let variable = |name: &'static str, with: Value| move |v: &mut Value| v["variables"] = json!({name: with});
    bad(polynomials(), &variable("coefficient", json!({"hex": "00"})), &["variables.coefficient", "no module has"]);
    bad(polynomials(), &variable("calls", json!({"hex": "0000000000"})), &["variables.calls", "5 bytes", "room for 4"]);
    bad(
        polynomials(),
        &|v| v["launches"][1]["variables"] = json!({"table_": {"hex": ""}}),
        &["launches[1].variables.table_", "no variable of this name", "coefficients"],
    );
}
