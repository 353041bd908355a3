//! A decoded module: the program and its code.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::op::Inst;
use crate::ir::{KernelInfo, ParamInfo, Program, Reg};
use crate::text::Errors;

/// A parsed and decoded PTX file: immutable, shareable between threads.
pub struct Module {
    pub(crate) program: Program,
    pub(crate) code: Vec<Inst>,
    /// Registers read and written, see [`Inst::refs`].
    pub(crate) refs: Vec<Reg>,
}

impl Module {
    /// Names of the kernels.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.program.entries.iter().map(|e| e.name.as_str())
    }

    /// The parameters of a kernel, in order; `None` if there is no such kernel.
    pub fn params(&self, kernel: &str) -> Option<&[ParamInfo]> {
        self.program.entry(kernel).map(|e| e.params.as_slice())
    }

    /// What a kernel asks of its launch; `None` if there is no such kernel.
    pub fn info(&self, kernel: &str) -> Option<KernelInfo> {
        self.program.entry(kernel).map(|e| KernelInfo {
            static_shared: e.static_shared,
            local: e.frame,
            maxntid: e.maxntid,
            reqntid: e.reqntid,
            reqnctapercluster: e.reqnctapercluster,
            explicit_cluster: e.explicit_cluster,
            maxnreg: e.maxnreg,
        })
    }

    /// Names and bytes of the global and constant variables.
    pub fn variables(&self) -> impl Iterator<Item = (&str, u64)> {
        self.program.globals.iter().map(|g| (g.name.as_str(), g.bytes))
    }
}

/// The most texts that are kept parsed.
const MOST_PARSED: usize = 64;

/// Parsing a module takes longer than most kernels: a text is parsed once in a process, unless there are many.
pub(crate) fn parsed(file: &str, text: &str) -> Result<Arc<Module>, Errors> {
    static CACHE: Mutex<Option<HashMap<String, Arc<Module>>>> = Mutex::new(None);
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let cache = cache.get_or_insert_default();
    if let Some(module) = cache.get(text) {
        return Ok(module.clone());
    }
    let module = Arc::new(Module::parse(file, text)?);
    if cache.len() == MOST_PARSED {
        cache.clear();
    }
    cache.insert(text.to_string(), module.clone());
    Ok(module)
}
