//! The safetensors format: what its specification forbids is refused by name, and what it allows is read.

use crate::common::{Folder, bits, cpu};
use nn::{CheckpointError, TensorFile, load_tensors, save_tensors, tensors_to_bytes};
use safetensors::SafeTensors;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use tensor::{DType, Generator, Tensor};

/// A file of this header and so many bytes of numbers.
fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

fn open(bytes: Vec<u8>) -> Result<TensorFile<Cursor<Vec<u8>>>, CheckpointError> {
    TensorFile::new(Path::new("FILE"), Cursor::new(bytes))
}

fn refusal(bytes: Vec<u8>) -> String {
    open(bytes).expect_err("a broken file was accepted").to_string()
}

#[test]
fn every_rule_of_the_format_is_kept_by_name() {
    let of = |dtype: &str, shape: &str, begin: u64, end: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    };
    let f32s = |n: u64, begin: u64| of("F32", &format!("[{n}]"), begin, begin + 4 * n);
    let good = format!(r#"{{"a":{},"b":{}}}"#, f32s(2, 0), f32s(1, 8));
    assert!(open(file(&good, 12)).is_ok());
    for (header, data, expected) in [
        // Names.
        (format!(r#"{{"a":{},"a":{}}}"#, f32s(2, 0), f32s(1, 8)), 12, "`a` occurs twice"),
        (format!(r#"{{"__metadata__":{{}},"a":{},"__metadata__":{{}}}}"#, f32s(1, 0)), 4, "`__metadata__` occurs twice"),
        // Metadata.
        (r#"{"__metadata__":{"step":3}}"#.into(), 0, "`__metadata__` in its header: invalid type: integer `3`"),
        (r#"{"__metadata__":{"a":"1","a":"2"}}"#.into(), 0, "`a` occurs twice"),
        (r#"{"__metadata__":["format"]}"#.into(), 0, "`__metadata__` in its header: invalid type"),
        // Entries.
        (r#"{"a":{"dtype":"F32","shape":[1]}}"#.into(), 4, "`a` in its header: missing field `data_offsets`"),
        (r#"{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}"#.into(), 4, "duplicate field `shape`"),
        (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#.into(), 4, "`a` in its header: invalid value"),
        (r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,6]}}"#.into(), 6, "`a` in its header: invalid type"),
        (r#"{"a":[0,4]}"#.into(), 4, "`a` in its header is no object"),
        (r#"{"a":["F32",[1],[0,4]]}"#.into(), 4, "`a` in its header is no object"),
        (format!(r#"{{"a":{}}}"#, of("F33", "[1]", 0, 4)), 4, "`a` in its header: unknown variant `F33`"),
        // Sizes.
        (format!(r#"{{"a":{}}}"#, of("F32", "[2]", 0, 4)), 4, "`a` is F32 [2], 64 bits, but has the bytes 0 to 4"),
        (format!(r#"{{"a":{}}}"#, of("F32", "[]", 0, 0)), 0, "`a` is F32 []"),
        (format!(r#"{{"a":{}}}"#, of("F32", "[1]", 4, 0)), 4, "has the bytes 4 to 0"),
        (format!(r#"{{"a":{}}}"#, of("F4", "[3]", 0, 2)), 2, "`a` is F4 [3], 12 bits"),
        (format!(r#"{{"a":{}}}"#, of("F32", "[4611686018427387905]", 0, 4)), 4, "`a` has the shape"),
        (format!(r#"{{"a":{}}}"#, of("F64", "[4294967296,4294967296]", 0, 0)), 0, "`a` has the shape"),
        (format!(r#"{{"a":{}}}"#, of("F64", "[0,4294967296,4294967296]", 0, 0)), 0, "`a` has the shape"),
        // The numbers.
        (format!(r#"{{"a":{},"b":{}}}"#, f32s(2, 0), f32s(1, 12)), 16, "no tensor has the bytes 8 to 12, before `b`"),
        (format!(r#"{{"a":{}}}"#, f32s(2, 4)), 12, "no tensor has the bytes 0 to 4, before `a`"),
        (format!(r#"{{"a":{},"b":{}}}"#, f32s(2, 0), f32s(1, 4)), 8, "`a` and `b` overlap"),
        (format!(r#"{{"a":{},"b":{}}}"#, f32s(2, 0), f32s(2, 0)), 8, "`a` and `b` overlap"),
        (good.clone(), 11, "its tensors take 12 bytes, but 11 are there"),
        (good.clone(), 13, "its tensors take 12 bytes, but 13 are there"),
        ("{}".into(), 1, "its tensors take 0 bytes, but 1 are there"),
        // The header as a whole.
        (format!(" {good}"), 12, "does not begin with {"),
        (format!("{good}x"), 12, "its header: trailing characters"),
        (r#"{"a":"#.into(), 12, "its header: EOF"),
        ("[]".into(), 0, "does not begin with {"),
        (String::new(), 0, "does not begin with {"),
    ] {
        let said = refusal(file(&header, data));
        assert!(said.starts_with("FILE: ") && said.contains(expected) && said.lines().count() == 1, "{header}: {said}");
    }
    let mut not_utf8 = file(r#"{"?":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4);
    not_utf8[10] = 0xff;
    assert!(refusal(not_utf8).contains("its header: "));
    for (length, expected) in
        [(0, "does not begin"), (u64::MAX, "possible"), (1 << 40, "possible"), (good.len() as u64 + 13, "possible")]
    {
        let mut bytes = file(&good, 12);
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        let said = refusal(bytes);
        assert!(said.contains(expected), "{length}: {said}");
    }
    for short in 0..9 {
        assert!(refusal(file(&good, 12)[..short].to_vec()).starts_with("FILE: "), "{short} bytes");
    }
}

#[test]
fn what_the_format_allows_is_read() {
    // Spaces after the header, an empty tensor and a scalar, tensors in no order, and one that cannot be used here.
    let header = r#"{"z":{"dtype":"F32","shape":[],"data_offsets":[4,8]},"e":{"dtype":"F16","shape":[3,0],"data_offsets":[4,4]},
        "c":{"dtype":"U16","shape":[2],"data_offsets":[0,4]},"__metadata__":{"run":"{\"step\":3}"}}   "#;
    let mut read = open(file(header, 8)).unwrap();
    assert_eq!((read.metadata("run"), read.metadata("format")), (Some("{\"step\":3}"), None));
    assert_eq!(read.names().collect::<Vec<_>>(), ["c", "e", "z"]);
    assert_eq!(read.read("z", &cpu()).unwrap().dims(), [0usize; 0]);
    assert_eq!(read.read("e", &cpu()).unwrap().dims(), [3, 0]);
    assert!(matches!(read.read("c", &cpu()), Err(CheckpointError::DType { key, found, .. }) if key == "c" && found == "U16"));
    assert!(matches!(read.read("d", &cpu()), Err(CheckpointError::Missing { keys, .. }) if keys == ["d"]));
    assert!(open(file("{}", 0)).unwrap().read_all(&cpu()).unwrap().is_empty());
}

/// The `safetensors` crate reads what is written here, and the other way round.
#[test]
fn files_are_those_of_the_reference() {
    let mut rng = Generator::new(0);
    let dtypes = [DType::F64, DType::F32, DType::BF16, DType::F16, DType::F8E4M3, DType::I64, DType::I32, DType::U8, DType::Bool];
    let mut tensors: BTreeMap<String, Tensor> = dtypes
        .iter()
        .enumerate()
        .map(|(i, &dtype)| (format!("{i} \"{dtype}\"\u{e9}"), rng.normal([i, 3], 3.0, 1.0, DType::F32, &cpu()).to_dtype(dtype)))
        .collect();
    tensors.insert("scalar".into(), Tensor::scalar(7.0, DType::F32, &cpu()));
    let bytes = tensors_to_bytes(&tensors, HashMap::from([("run".to_owned(), "a \"b\"".to_owned())]));
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(reference.len(), tensors.len());
    for (name, tensor) in &tensors {
        let view = reference.tensor(name).unwrap();
        assert_eq!((view.shape(), view.data()), (tensor.dims(), &tensor.to_bytes()[..]), "{name}");
        assert_eq!(view.data().as_ptr().addr().wrapping_sub(bytes.as_ptr().addr()) % tensor.dtype().size(), 0, "{name}");
    }
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["run"], "a \"b\"");

    let folder = Folder::new("reference");
    let path = folder.0.join("x.safetensors");
    safetensors::serialize_to_file(reference.tensors(), None, &path).unwrap();
    let again = load_tensors(&path, &cpu()).unwrap();
    save_tensors(&path, &again).unwrap();
    for read in [again, load_tensors(&path, &cpu()).unwrap()] {
        let same = |(name, a): (&String, &Tensor)| tensors[name].dtype() == a.dtype() && tensors[name].to_bytes() == a.to_bytes();
        assert!(read.len() == tensors.len() && read.iter().all(same));
        assert_eq!(bits(&read["scalar"]), [7f32.to_bits()]);
    }
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[test]
fn another_kind_of_file_is_called_what_it_is() {
    let oid = "0".repeat(64);
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 4096\n").into_bytes();
    let marked = [b"\xef\xbb\xbf \n".to_vec(), b"<!DOCTYPE html><title>Sign in</title>".to_vec()].concat();
    for (bytes, what) in [
        (pointer.clone(), "Git LFS pointer"),
        (marked, "an HTML page"),
        (b"<html><body>Not found".to_vec(), "an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied".to_vec(), "an XML page"),
        ([b"PK\x03\x04\x14\x00\x00\x00\x08".to_vec(), vec![0; 99]].concat(), "zip archive"),
        ([b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20".to_vec(), vec![0; 99]].concat(), "pickle"),
        // This one's first bytes are a size that a header may have.
        ([b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03".to_vec(), vec![7; 600_000]].concat(), "gzip archive"),
        ([b"GGUF\x03\x00\x00\x00\x01".to_vec(), vec![0; 99]].concat(), "GGUF"),
    ] {
        let said = refusal(bytes);
        assert!(said.starts_with("FILE: ") && said.contains(what) && said.contains("expected a safetensors file"), "{said}");
    }
    // A file of a header with 640 bytes begins like a pickle, and is none.
    let header = format!("{:640}", r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#);
    assert!(open(file(&header, 4)).is_ok());
    assert!(refusal(file(&header, 3)).contains("its tensors take 4 bytes"));
}
