//! The program's memory. The pointers that a program passes are trusted as NVIDIA's libraries trust them: a null where there must
//! be none is refused, anything else that is wrong is the program's crash. All `unsafe` for this is here.

use std::ffi::{CStr, c_char, c_void};

use crate::call::{Result, failure};
use crate::status::Status;

fn null(what: &str) -> crate::call::Failure {
    failure(Status::INVALID_VALUE, format!("{what} is null"))
}

/// Stores a result.
pub fn put<T>(to: *mut T, value: T) -> Result {
    if to.is_null() {
        return Err(null("the pointer for a result"));
    }
    // SAFETY: not null; see the module.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// Stores a result that a program may not want.
pub fn put_if<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: not null; see the module.
        unsafe { to.write_unaligned(value) };
    }
}

/// Reads an argument passed by pointer.
pub fn get<T: Copy>(from: *const T) -> Result<T> {
    if from.is_null() {
        return Err(null("a pointer to an argument"));
    }
    // SAFETY: not null; see the module.
    Ok(unsafe { from.read_unaligned() })
}

/// Reads `count` arguments.
pub fn list<T: Copy>(from: *const T, count: usize) -> Result<Vec<T>> {
    if count > 0 && from.is_null() {
        return Err(null("a pointer to a list"));
    }
    // SAFETY: not null, unless nothing is read; see the module.
    Ok((0..count).map(|i| unsafe { from.add(i).read_unaligned() }).collect())
}

/// A C string.
pub fn text(from: *const c_char) -> Result<String> {
    if from.is_null() {
        return Err(null("a string"));
    }
    // SAFETY: not null; see the module.
    Ok(unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned())
}

/// Bytes of the program.
pub fn bytes<'a>(from: u64, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: see the module; no one keeps the slice beyond the call that gave the pointer.
    unsafe { std::slice::from_raw_parts(from as *const u8, len) }
}

/// Writes bytes of the program.
pub fn write(to: u64, bytes: &[u8]) {
    // SAFETY: see the module; `copy`, since ranges of one program may overlap.
    unsafe { std::ptr::copy(bytes.as_ptr(), to as *mut u8, bytes.len()) };
}

/// Calls back.
pub fn call(function: u64, data: u64) {
    // SAFETY: the program gave the function with this signature (`cudaHostFn_t`).
    let function: extern "C" fn(*mut c_void) = unsafe { std::mem::transmute(function as *const ()) };
    function(data as *mut c_void);
}

/// Calls back as `cudaStreamCallback_t` has it.
pub fn call_stream(function: u64, stream: u64, status: i32, data: u64) {
    // SAFETY: the program gave the function with this signature.
    let function: extern "C" fn(u64, i32, *mut c_void) = unsafe { std::mem::transmute(function as *const ()) };
    function(stream, status, data as *mut c_void);
}

/// Host memory at just these addresses, zeros. `at` and `len` are multiples of a page.
pub fn map(at: u64, len: usize) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
    // SAFETY: with MAP_FIXED_NOREPLACE nothing that is mapped is touched.
    let got = unsafe { libc::mmap(at as *mut c_void, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    got as u64 == at
}

/// Gives back what [`map`] gave.
pub fn unmap(at: u64, len: usize) {
    // SAFETY: the range was mapped by `map`, and the program freed it.
    unsafe { libc::munmap(at as *mut c_void, len) };
}

/// To the program's own standard output, in the order of its own `printf`.
pub fn print(text: &str) {
    unsafe extern "C" {
        static mut stdout: *mut libc::FILE;
    }
    // SAFETY: the C library's stream, used by its own function.
    unsafe { libc::fwrite(text.as_ptr().cast(), 1, text.len(), stdout) };
}

/// The address that a name has in this library.
pub fn symbol(name: &str) -> Option<u64> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: `dladdr` and `dlopen` are given an address and a path of this library, which stays loaded.
    let address = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(symbol as *const c_void, &mut info) == 0 {
            return None;
        }
        let own = libc::dlopen(info.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        libc::dlsym(own, name.as_ptr())
    };
    (!address.is_null()).then_some(address as u64)
}

/// Whether a library of this name is in the process.
pub fn is_loaded(library: &CStr) -> bool {
    // SAFETY: a C string; with RTLD_NOLOAD nothing is loaded.
    !unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) }.is_null()
}

/// A string that the program may keep: as long as the process, and one for each text.
pub fn keep(text: &str) -> *const c_char {
    use std::collections::HashMap;
    use std::ffi::CString;
    use std::sync::Mutex;
    static KEPT: Mutex<Option<HashMap<String, CString>>> = Mutex::new(None);
    let mut kept = KEPT.lock().unwrap_or_else(|e| e.into_inner());
    let string = kept.get_or_insert_default().entry(text.to_string());
    string.or_insert_with(|| CString::new(text.replace('\0', "")).unwrap_or_default()).as_ptr()
}
