//! NVRTC, NVIDIA's CUDA C++ compiler in a library, loaded when it is asked for: CUDA C++ to PTX without a toolkit or a card.
//!
//! The library is looked for where [`Nvrtc::find`] says. It comes with a CUDA toolkit, and as a wheel:
//! `pip install nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12` (the second has the headers).

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::{env, fs, ptr};

use libloading::Library;

type Program = *mut std::ffi::c_void;
type CreateProgram =
    unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char) -> c_int;
type CompileProgram = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type GetSize = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type GetText = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type DestroyProgram = unsafe extern "C" fn(*mut Program) -> c_int;
type GetErrorString = unsafe extern "C" fn(c_int) -> *const c_char;

/// Why there is no PTX.
#[derive(Debug, thiserror::Error)]
pub enum NvrtcError {
    /// There is no library.
    #[error(
        "NVRTC was not found: set {VARIABLE} to its path, or install a CUDA toolkit or the wheel nvidia-cuda-nvrtc-cu12; looked for {}",
        .0.join(", ")
    )]
    NotFound(
        /// Where it was looked for.
        Vec<String>,
    ),
    /// The library cannot be used.
    #[error("{0}")]
    Library(String),
    /// The source is wrong; the compiler's log.
    #[error("{0}")]
    Compile(String),
}

/// Names the library's file, before any other place.
const VARIABLE: &str = "PTX_NVRTC";

/// The loaded library.
pub struct Nvrtc {
    library: Library,
    /// The folder of CUDA's headers, if it lies where it does in toolkits and wheels.
    include: Option<PathBuf>,
}

/// PTX of CUDA C++ for `sm_90a`, with the lines of the source in it, so that hazards name them.
///
/// `options` are NVRTC's own, `--std=c++17` for example; they come after the ones that this adds, the architecture, line
/// information and the folder of CUDA's headers, and so have the last word.
///
/// ```no_run
/// let ptx = ptx::nvrtc::compile(r#"extern "C" __global__ void one(int *x) { *x = 1; }"#, &[])?;
/// let module = ptx::Gpu::default().load_ptx("one.ptx", &ptx)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If NVRTC is not found, or refuses the source.
pub fn compile(source: &str, options: &[&str]) -> Result<String, NvrtcError> {
    let nvrtc = Nvrtc::find()?;
    let mut all = Vec::new();
    if !options.iter().any(|o| o.starts_with("--gpu-architecture") || o.starts_with("-arch")) {
        all.push("--gpu-architecture=compute_90a".to_string());
    }
    all.push("--generate-line-info".to_string());
    all.extend(nvrtc.include.iter().map(|folder| format!("--include-path={}", folder.display())));
    all.extend(options.iter().map(|o| o.to_string()));
    nvrtc.compile("source.cu", source, &all)
}

/// Where the library may be, best first. What starts with `lib` alone is the loader's to find.
fn candidates(variable: Option<PathBuf>, roots: &[PathBuf]) -> Vec<PathBuf> {
    const NAMES: [&str; 3] = ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"];
    const FOLDERS: [&str; 7] =
        ["lib64", "lib", "nvidia/cuda_nvrtc/lib", "nvidia/cu13/lib", "targets/x86_64-linux/lib", "lib/x86_64-linux-gnu", ""];
    if let Some(path) = variable {
        return vec![path];
    }
    let files = roots.iter().flat_map(|root| FOLDERS.iter().flat_map(move |f| NAMES.map(|n| root.join(f).join(n))));
    files.filter(|file| file.exists()).chain(NAMES.map(PathBuf::from)).collect()
}

/// Folders below which toolkits and wheels lie: what the environment names, `target/toolchain` of this folder or one above, and
/// the usual place.
fn roots() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(env::var_os).map(PathBuf::from).collect();
    if let Ok(here) = env::current_dir() {
        roots.extend(here.ancestors().map(|folder| folder.join("target/toolchain")));
    }
    if let Some(python) = env::var_os("VIRTUAL_ENV") {
        let versions = fs::read_dir(Path::new(&python).join("lib")).into_iter().flatten().flatten();
        roots.extend(versions.map(|version| version.path().join("site-packages")));
    }
    roots.extend(["/usr/local/cuda", "/opt/cuda", "/usr"].map(PathBuf::from));
    roots
}

/// The headers that belong to a library.
fn headers(library: &Path) -> Option<PathBuf> {
    let folder = library.parent()?;
    let places = ["../../cuda_runtime/include", "../include", "../../include", "../../../include"];
    places.iter().map(|place| folder.join(place)).find(|place| place.join("cuda_fp16.h").exists())
}

impl Nvrtc {
    /// Loads the library from where it is found first: the file that the environment variable `PTX_NVRTC` names; a toolkit
    /// named by `CUDA_HOME` or `CUDA_PATH`; wheels in `target/toolchain` of the current folder or one above it, or in the
    /// active virtual environment; `/usr/local/cuda`; the dynamic loader's own places.
    ///
    /// # Errors
    /// If it is nowhere, or does not load.
    pub fn find() -> Result<Nvrtc, NvrtcError> {
        let variable = env::var_os(VARIABLE).map(PathBuf::from);
        let (named, places) = (variable.is_some(), candidates(variable, &roots()));
        let mut tried = Vec::new();
        for path in places {
            match Nvrtc::load(&path) {
                Ok(found) => return Ok(found),
                Err(e) if named => return Err(NvrtcError::Library(format!("{VARIABLE}: {e}"))),
                Err(_) => tried.push(path.display().to_string()),
            }
        }
        Err(NvrtcError::NotFound(tried))
    }

    /// Loads the library from `path`.
    ///
    /// # Errors
    /// If it does not load.
    pub fn load(path: &Path) -> Result<Nvrtc, NvrtcError> {
        // SAFETY: it is NVIDIA's library, whose initialisers have no precondition.
        let library = unsafe { Library::new(path) }.map_err(|e| NvrtcError::Library(format!("{}: {e}", path.display())))?;
        Ok(Nvrtc { library, include: headers(path) })
    }

    /// Compiles `source` to PTX, with these options and no others. `name` is what `.file` and messages call it.
    ///
    /// # Errors
    /// The compiler's log, if it refuses the source.
    pub fn compile(&self, name: &str, source: &str, options: &[String]) -> Result<String, NvrtcError> {
        let text = |s: &str| CString::new(s).map_err(|_| NvrtcError::Compile(format!("{name}: a NUL byte in the source")));
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
                    Ok(log) if !log.trim().is_empty() => Err(NvrtcError::Compile(log.trim_end().to_string())),
                    _ => self.check(code).map(|()| String::new()),
                },
            };
            destroy(&mut program);
            result
        }
    }

    /// # Safety
    /// `T` is the type of the function called `name`.
    unsafe fn function<T: Copy>(&self, name: &CStr) -> Result<T, NvrtcError> {
        // SAFETY: as the caller promises.
        unsafe { self.library.get::<T>(name.to_bytes_with_nul()) }.map(|f| *f).map_err(|e| NvrtcError::Library(e.to_string()))
    }

    /// # Safety
    /// `program` is alive, and `size` and `get` name a pair of functions that give a size and fill a buffer of it.
    unsafe fn text(&self, program: Program, size: &CStr, get: &CStr) -> Result<String, NvrtcError> {
        // SAFETY: the buffer has the size that the library asks for.
        unsafe {
            let mut bytes = 0usize;
            self.check(self.function::<GetSize>(size)?(program, &mut bytes))?;
            let mut buffer = vec![0u8; bytes];
            self.check(self.function::<GetText>(get)?(program, buffer.as_mut_ptr().cast()))?;
            buffer.truncate(buffer.iter().position(|&b| b == 0).unwrap_or(bytes));
            String::from_utf8(buffer).map_err(|_| NvrtcError::Library("NVRTC gave text that is not UTF-8".to_string()))
        }
    }

    fn check(&self, code: c_int) -> Result<(), NvrtcError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the function gives a static string for every code.
        let message = unsafe {
            let describe = self.function::<GetErrorString>(c"nvrtcGetErrorString")?;
            CStr::from_ptr(describe(code)).to_string_lossy().into_owned()
        };
        Err(NvrtcError::Library(format!("NVRTC: {message}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_comes_first_and_then_what_is_there() {
        let named = candidates(Some("/own/libnvrtc.so".into()), &roots());
        assert_eq!(named, [PathBuf::from("/own/libnvrtc.so")]);
        let nothing = candidates(None, &["/nowhere".into()]);
        assert_eq!(nothing, ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"].map(PathBuf::from));
        let folder = env::temp_dir().join(format!("nvrtc-{}", std::process::id()));
        let wheel = folder.join("nvidia/cuda_nvrtc/lib");
        let include = folder.join("nvidia/cuda_runtime/include");
        fs::create_dir_all(&wheel).and_then(|()| fs::create_dir_all(&include)).unwrap();
        fs::write(wheel.join("libnvrtc.so.12"), "").and_then(|()| fs::write(include.join("cuda_fp16.h"), "")).unwrap();
        let found = candidates(None, std::slice::from_ref(&folder));
        assert_eq!(found[0], wheel.join("libnvrtc.so.12"));
        assert_eq!(headers(&found[0]).unwrap().canonicalize().unwrap(), include.canonicalize().unwrap());
        // A file that is no library is refused by its name.
        let message = Nvrtc::load(&found[0]).err().unwrap().to_string();
        assert!(message.contains("libnvrtc.so.12"), "{message}");
        fs::remove_dir_all(&folder).unwrap();
        let message = NvrtcError::NotFound(vec!["here".into()]).to_string();
        assert!(message.contains("PTX_NVRTC") && message.contains("here"), "{message}");
    }

    /// Where there is no NVRTC, there is nothing to test but the error.
    #[test]
    fn cuda_compiles_or_the_error_says_what_to_do() {
        let source = "#include <cuda_fp16.h>\nextern \"C\" __global__ void one(__half* x) { *x = 1.0f; }";
        match compile(source, &["--std=c++17"]) {
            Ok(text) => {
                let module = crate::Module::parse("one.ptx", &text).unwrap();
                assert_eq!(module.kernels().collect::<Vec<_>>(), ["one"]);
                let log = compile("__global__ void f() { undeclared; }", &[]).unwrap_err().to_string();
                assert!(log.contains("undeclared") && log.contains("source.cu(1)"), "{log}");
            }
            Err(e) => assert!(matches!(e, NvrtcError::NotFound(_)), "{e}"),
        }
    }
}
