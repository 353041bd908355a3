//! NVRTC, the CUDA C++ compiler in a library: the five functions that are needed, loaded from an explicit path.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;
use std::ptr;

use libloading::Library;

type Program = *mut std::ffi::c_void;
type CreateProgram =
    unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char) -> c_int;
type CompileProgram = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type GetSize = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type GetText = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type DestroyProgram = unsafe extern "C" fn(*mut Program) -> c_int;
type GetErrorString = unsafe extern "C" fn(c_int) -> *const c_char;

/// The loaded library.
pub struct Nvrtc {
    library: Library,
}

impl Nvrtc {
    /// Loads the library from `path`.
    pub fn load(path: &Path) -> Result<Nvrtc, String> {
        // SAFETY: it is NVIDIA's library, whose initialisers have no precondition.
        let library = unsafe { Library::new(path) }.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Nvrtc { library })
    }

    /// Compiles `source` to PTX. `name` is what `.file` and messages call it. The error is the compiler's log.
    pub fn compile(&self, name: &str, source: &str, options: &[String]) -> Result<String, String> {
        let text = |s: &str| CString::new(s).map_err(|_| format!("{name}: a NUL byte in the source"));
        let (name_c, source_c) = (text(name)?, text(source)?);
        let options: Vec<CString> = options.iter().map(|o| text(o)).collect::<Result<_, _>>()?;
        let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        // SAFETY: the signatures are those of nvrtc.h; every pointer outlives the call that takes it; the program is
        // destroyed once, after its last use.
        unsafe {
            let create = self.function::<CreateProgram>(c"nvrtcCreateProgram")?;
            let compile = self.function::<CompileProgram>(c"nvrtcCompileProgram")?;
            let destroy = self.function::<DestroyProgram>(c"nvrtcDestroyProgram")?;
            let mut program: Program = ptr::null_mut();
            let created = create(&mut program, source_c.as_ptr(), name_c.as_ptr(), 0, ptr::null(), ptr::null());
            self.check(created)?;
            let compiled = compile(program, options.len() as c_int, options.as_ptr());
            let result = match compiled {
                0 => self.text(program, c"nvrtcGetPTXSize", c"nvrtcGetPTX"),
                code => match self.text(program, c"nvrtcGetProgramLogSize", c"nvrtcGetProgramLog") {
                    Ok(log) if !log.trim().is_empty() => Err(log.trim_end().to_string()),
                    _ => self.check(code).map(|()| String::new()),
                },
            };
            destroy(&mut program);
            result
        }
    }

    /// # Safety
    /// `T` is the type of the function called `name`.
    unsafe fn function<T: Copy>(&self, name: &CStr) -> Result<T, String> {
        // SAFETY: as the caller promises.
        unsafe { self.library.get::<T>(name.to_bytes_with_nul()) }.map(|f| *f).map_err(|e| e.to_string())
    }

    /// # Safety
    /// `program` is alive, and `size` and `get` name a pair of functions that give a size and fill a buffer of it.
    unsafe fn text(&self, program: Program, size: &CStr, get: &CStr) -> Result<String, String> {
        // SAFETY: the buffer has the size that the library asks for.
        unsafe {
            let mut bytes = 0usize;
            self.check(self.function::<GetSize>(size)?(program, &mut bytes))?;
            let mut buffer = vec![0u8; bytes];
            self.check(self.function::<GetText>(get)?(program, buffer.as_mut_ptr().cast()))?;
            buffer.truncate(buffer.iter().position(|&b| b == 0).unwrap_or(bytes));
            String::from_utf8(buffer).map_err(|_| "NVRTC gave text that is not UTF-8".to_string())
        }
    }

    fn check(&self, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the function gives a static string for every code.
        let message = unsafe {
            let describe = self.function::<GetErrorString>(c"nvrtcGetErrorString")?;
            CStr::from_ptr(describe(code)).to_string_lossy().into_owned()
        };
        Err(format!("NVRTC: {message}"))
    }
}
