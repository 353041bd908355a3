//! The driver's functions by name: `cuGetProcAddress` and its relatives.

use crate::call::Result;
use crate::host;
use crate::status::Status;

/// Functions whose form changed with a version: from which on a name means which symbol. Where nothing is said, it is the highest
/// `_v` that there is.
const SINCE: &[(&str, &[(i32, &str)])] = &[
    ("cuCtxCreate", &[(13_000, "cuCtxCreate_v4"), (0, "cuCtxCreate_v2")]),
    ("cuGetProcAddress", &[(12_000, "cuGetProcAddress_v2"), (0, "cuGetProcAddress")]),
    ("cuStreamGetCaptureInfo", &[(12_030, "cuStreamGetCaptureInfo_v3"), (0, "cuStreamGetCaptureInfo_v2")]),
    ("cuGraphInstantiate", &[(12_000, "cuGraphInstantiateWithFlags"), (0, "cuGraphInstantiate_v2")]),
    ("cuMemPrefetchAsync", &[(0, "cuMemPrefetchAsync_v2")]),
];

/// The address of what a program of `version` means by `name`.
fn find(name: &str, version: i32) -> Option<u64> {
    if let Some((_, forms)) = SINCE.iter().find(|(n, _)| *n == name) {
        return forms.iter().find(|(from, _)| version >= *from).and_then(|(_, symbol)| host::symbol(symbol));
    }
    (2..5).rev().find_map(|v| host::symbol(&format!("{name}_v{v}"))).or_else(|| host::symbol(name))
}

/// Stores an address, and 0 where it was found or 1 where there is none.
pub fn point(name: &str, version: i32, out: *mut u64, found: *mut u32) -> Result {
    let address = find(name, version).filter(|_| name.starts_with("cu"));
    host::put(out, address.unwrap_or(0))?;
    host::put_if(found, u32::from(address.is_none()));
    match address {
        None if found.is_null() => Err(Status::NOT_FOUND.into()),
        _ => Ok(()),
    }
}
