//! A kernel launch, built step by step.

use std::time::Duration;

use super::ModuleHandle;
use super::args::{Arg, Args, Argument};
use crate::ir::ParamInfo;

/// Three extents, x first: `8`, `[8, 2]` or `[8, 2, 1]` of CTAs or threads. What is not said is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dim3(pub [u32; 3]);

impl From<u32> for Dim3 {
    fn from(x: u32) -> Dim3 {
        Dim3([x, 1, 1])
    }
}

impl From<[u32; 2]> for Dim3 {
    fn from([x, y]: [u32; 2]) -> Dim3 {
        Dim3([x, y, 1])
    }
}

impl From<[u32; 3]> for Dim3 {
    fn from(extents: [u32; 3]) -> Dim3 {
        Dim3(extents)
    }
}

/// A kernel launch: `Launch::new(module, "scale").grid(8).block(256).args((x, 1.5f32))`.
///
/// What is not said is one CTA of one thread, without clusters, dynamic shared memory and parameters.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Launch {
    /// The module.
    pub module: ModuleHandle,
    /// The kernel's name.
    pub entry: String,
    /// CTAs.
    pub grid: [u32; 3],
    /// Threads of a CTA.
    pub block: [u32; 3],
    /// CTAs of a cluster; `[1, 1, 1]` for none, or for what the kernel demands.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory of a CTA.
    pub shared_bytes: u32,
    /// All CTAs are resident at once, so that they may wait for each other (`grid.sync()`).
    pub cooperative: bool,
    /// The launch may begin before the one before it has ended (programmatic dependent launch): the kernel has to wait by
    /// `griddepcontrol.wait`.
    pub dependent: bool,
    /// Registers that the compiler gave each thread, as `ptxas -v` prints them; PTX does not say.
    pub registers: Option<u32>,
    /// Warp instructions after which it is given up, if that is less than [`Options::step_limit`](crate::Options::step_limit).
    pub step_limit: Option<u64>,
    /// Time after which it is given up, if that is less than [`Options::time_limit`](crate::Options::time_limit).
    pub time_limit: Option<Duration>,
    arguments: Arguments,
}

#[derive(Clone, Debug)]
enum Arguments {
    /// The whole parameter block.
    Packed(Vec<u8>),
    /// One for each parameter.
    Each(Vec<Argument>),
}

impl Launch {
    /// A launch of the kernel `entry` with one CTA of one thread.
    pub fn new(module: ModuleHandle, entry: impl Into<String>) -> Launch {
        Launch {
            module,
            entry: entry.into(),
            grid: [1; 3],
            block: [1; 3],
            cluster: [1; 3],
            shared_bytes: 0,
            cooperative: false,
            dependent: false,
            registers: None,
            step_limit: None,
            time_limit: None,
            arguments: Arguments::Each(Vec::new()),
        }
    }

    /// So many CTAs.
    pub fn grid(mut self, ctas: impl Into<Dim3>) -> Launch {
        self.grid = ctas.into().0;
        self
    }

    /// So many threads in a CTA.
    pub fn block(mut self, threads: impl Into<Dim3>) -> Launch {
        self.block = threads.into().0;
        self
    }

    /// So many CTAs in a cluster.
    pub fn cluster(mut self, ctas: impl Into<Dim3>) -> Launch {
        self.cluster = ctas.into().0;
        self
    }

    /// So many bytes of dynamic shared memory in a CTA.
    pub fn shared_bytes(mut self, bytes: u32) -> Launch {
        self.shared_bytes = bytes;
        self
    }

    /// See [`Launch::cooperative`](field@Launch::cooperative).
    pub fn cooperative(mut self, yes: bool) -> Launch {
        self.cooperative = yes;
        self
    }

    /// See [`Launch::dependent`](field@Launch::dependent).
    pub fn dependent(mut self, yes: bool) -> Launch {
        self.dependent = yes;
        self
    }

    /// See [`Launch::registers`](field@Launch::registers).
    pub fn registers(mut self, a_thread: impl Into<Option<u32>>) -> Launch {
        self.registers = a_thread.into();
        self
    }

    /// See [`Launch::step_limit`](field@Launch::step_limit).
    pub fn step_limit(mut self, warp_instructions: impl Into<Option<u64>>) -> Launch {
        self.step_limit = warp_instructions.into();
        self
    }

    /// See [`Launch::time_limit`](field@Launch::time_limit).
    pub fn time_limit(mut self, limit: impl Into<Option<Duration>>) -> Launch {
        self.time_limit = limit.into();
        self
    }

    /// The arguments in order, as a tuple (or a list of [`Argument`]s): `(x, y, n as u32, 0.5f32)`. They are checked against
    /// the kernel's `.param`s when it is launched.
    ///
    /// # Panics
    /// If one of them is a [`TensorMap`](crate::tensor_map::TensorMap) that breaks a limit.
    #[track_caller]
    pub fn args(mut self, args: impl Args) -> Launch {
        self.arguments = Arguments::Each(args.arguments());
        self
    }

    /// One argument more.
    ///
    /// # Panics
    /// As [`Launch::args`].
    #[track_caller]
    pub fn arg(mut self, arg: impl Arg) -> Launch {
        match &mut self.arguments {
            Arguments::Each(list) => list.push(arg.argument()),
            packed => *packed = Arguments::Each(vec![arg.argument()]),
        }
        self
    }

    /// The whole parameter block instead of arguments, laid out as [`Module::params`](crate::Module::params) says.
    pub fn params(mut self, bytes: Vec<u8>) -> Launch {
        self.arguments = Arguments::Packed(bytes);
        self
    }

    /// The parameter block, if it was given as a whole.
    #[cfg(feature = "card")]
    pub(crate) fn packed(&self) -> Option<&[u8]> {
        match &self.arguments {
            Arguments::Packed(bytes) => Some(bytes),
            Arguments::Each(_) => None,
        }
    }

    /// The parameter block of a kernel that has these parameters.
    ///
    /// # Errors
    /// A sentence that names the first parameter whose argument does not fit.
    pub fn pack(&self, params: &[ParamInfo]) -> Result<Vec<u8>, String> {
        let wanted = params.last().map_or(0, |p| p.offset + p.size) as usize;
        match &self.arguments {
            Arguments::Packed(bytes) if bytes.len() == wanted => Ok(bytes.clone()),
            Arguments::Packed(bytes) => Err(format!("`{}` takes {wanted} bytes of parameters, not {}", self.entry, bytes.len())),
            Arguments::Each(list) if list.len() != params.len() => {
                Err(format!("`{}` takes {} parameters, not {}", self.entry, params.len(), list.len()))
            }
            Arguments::Each(list) => {
                let mut block = vec![0; wanted];
                for (i, (argument, param)) in list.iter().zip(params).enumerate() {
                    argument.fits(param).map_err(|e| format!("parameter {i} of `{}`: {e}", self.entry))?;
                    block[param.offset as usize..][..param.size as usize].copy_from_slice(&argument.bytes);
                }
                Ok(block)
            }
        }
    }
}
