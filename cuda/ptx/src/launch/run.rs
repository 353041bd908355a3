//! Running a launch file on a GPU, interpreted or real.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::LaunchError;
use super::{Arg, Bound, Contents, LaunchFile, LaunchSpec, Number, file};
use crate::counters::Counters;
use crate::driver::interpreted::parsed;
use crate::driver::{Driver, DriverError};
use crate::exec::module::Module;
use crate::hazard::Hazard;
use crate::mem::MAX_ALLOCATION;
use crate::request::{Fault, FaultKind, Launch, Report};
use crate::tensor_map::TensorMap;

/// A launch file whose modules are parsed and whose buffers are read: it can be run again and again.
pub struct Prepared {
    file: LaunchFile,
    modules: BTreeMap<PathBuf, (Arc<Module>, String)>,
    contents: BTreeMap<String, (u64, Option<Vec<u8>>)>,
}

/// What a run of a launch file gave.
#[derive(Default)]
pub struct Outcome {
    /// Kernels that ran to their end.
    pub launches: usize,
    /// Thread-instructions executed.
    pub instructions: u64,
    /// What was wrong.
    pub hazards: Vec<Hazard>,
    /// What broke the letter of the ISA and nothing else.
    pub strict: Vec<Hazard>,
    /// What ended a kernel early, if anything did; the launches after it did not run.
    pub fault: Option<Fault>,
    /// Of each launch, where they were asked for.
    pub counters: Vec<Counters>,
    /// What the kernels printed.
    pub printed: String,
    /// Where every warp stood when a limit or an interrupt ended a kernel, as a table.
    pub standing: String,
    /// The buffers to dump, by name, as they were at the end, or when a kernel ended early (on a card there are none then).
    pub dumps: BTreeMap<String, Vec<u8>>,
}

impl Outcome {
    /// Adds what came of one launch, and returns what ended it early.
    fn take(&mut self, report: Report) -> Option<Fault> {
        self.instructions += report.instructions;
        self.hazards.extend(report.hazards);
        self.strict.extend(report.strict);
        self.counters.extend(report.counters);
        self.printed.push_str(&report.printed);
        self.standing.push_str(&report.standing);
        report.fault
    }
}

impl LaunchFile {
    /// Reads a launch file, or all that it includes.
    pub fn read(path: &Path) -> Result<Vec<LaunchFile>, LaunchError> {
        file::read(path)
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and checks all that it names.
    pub fn prepare(self) -> Result<Prepared, LaunchError> {
        let mut modules = BTreeMap::new();
        for launch in &self.launches {
            if !modules.contains_key(&launch.ptx) {
                let text = file::read_text(&launch.ptx)?;
                let module = parsed(&launch.ptx.display().to_string(), &text).map_err(|e| LaunchError::Ptx(e.to_string()))?;
                modules.insert(launch.ptx.clone(), (module, text));
            }
        }
        let mut contents = BTreeMap::new();
        for (name, buffer) in &self.buffers {
            let len = buffer.bytes;
            let bytes = match &buffer.contents {
                Contents::Uninitialized => None,
                Contents::Fill(byte) => Some(vec![*byte; len.unwrap_or(0) as usize]),
                Contents::Random(random) => Some(random.bytes(len.unwrap_or(0) as usize)),
                Contents::File(path) => Some(file::contents(path, MAX_ALLOCATION)?),
            };
            let len = len.or(bytes.as_ref().map(|b| b.len() as u64)).unwrap_or(0);
            contents.insert(name.clone(), (len, bytes));
        }
        for (i, launch) in self.launches.iter().enumerate() {
            check_args(&self, i, launch, &modules[&launch.ptx].0)?;
        }
        Ok(Prepared { file: self, modules, contents })
    }
}

/// The arguments are as many and as long as the kernel's parameters.
fn check_args(file: &LaunchFile, index: usize, launch: &LaunchSpec, module: &Module) -> Result<(), LaunchError> {
    let error = |key: &str, message: String| {
        let key = if file.launches.len() > 1 { format!("launches[{index}].{key}") } else { key.to_string() };
        LaunchError::Field { file: file.path.clone(), key, message }
    };
    let Some(params) = module.params(&launch.entry) else {
        let known: Vec<&str> = module.kernels().collect();
        let message = format!("{} has no kernel {:?}; it has {}", launch.ptx.display(), launch.entry, known.join(", "));
        return Err(error("entry", message));
    };
    if params.len() != launch.args.len() {
        let message = format!("{} takes {} parameters, found {}", launch.entry, params.len(), launch.args.len());
        return Err(error("args", message));
    }
    for (i, (param, arg)) in params.iter().zip(&launch.args).enumerate() {
        let size = match arg {
            Arg::Buffer(_) | Arg::TensorMapPointer(_) => 8,
            Arg::TensorMap(_) => 128,
            Arg::Bytes(bytes) => bytes.len(),
        };
        if size != param.size as usize {
            return Err(error(
                &format!("args[{i}]"),
                format!("parameter {i} of {} takes {} bytes, found {size}", launch.entry, param.size),
            ));
        }
    }
    Ok(())
}

impl Prepared {
    /// The file that was prepared.
    pub fn file(&self) -> &LaunchFile {
        &self.file
    }

    /// Runs every launch in order on a GPU without other work, until one faults.
    pub fn run(&self, gpu: &mut dyn Driver) -> Result<Outcome, LaunchError> {
        let error = |key: String, message: String| LaunchError::Field { file: self.file.path.clone(), key, message };
        let refused = |section: &str, name: &str| {
            let key = format!("{section}.{name}");
            move |e: DriverError| error(key, e.to_string())
        };
        let mut pointers = BTreeMap::new();
        for (name, (len, bytes)) in &self.contents {
            let ptr = gpu.alloc((*len).max(1)).map_err(refused("buffers", name))?;
            if let Some(bytes) = bytes {
                gpu.upload(ptr, bytes).map_err(refused("buffers", name))?;
            }
            pointers.insert(name.as_str(), ptr);
        }
        let mut maps = BTreeMap::new();
        for (name, spec) in &self.file.tensor_maps {
            let map = TensorMap { address: pointers[spec.buffer.as_str()], ..spec.map.clone() };
            let encoded = gpu.tensor_map(&map).map_err(refused("tensor_maps", name))?;
            let ptr = gpu.alloc(encoded.len() as u64).map_err(refused("tensor_maps", name))?;
            gpu.upload(ptr, &encoded).map_err(refused("tensor_maps", name))?;
            maps.insert(name.as_str(), (encoded, ptr));
        }
        let mut handles = BTreeMap::new();
        for (path, (_, text)) in &self.modules {
            handles.insert(path, gpu.load(&path.display().to_string(), text)?);
        }

        let mut outcome = Outcome::default();
        for launch in &self.file.launches {
            let layout = self.modules[&launch.ptx].0.params(&launch.entry).unwrap_or_default();
            let mut params = vec![0u8; layout.last().map_or(0, |p| (p.offset + p.size) as usize)];
            for (arg, param) in launch.args.iter().zip(layout) {
                let slot = &mut params[param.offset as usize..][..param.size as usize];
                match arg {
                    Arg::Buffer(name) => slot.copy_from_slice(&pointers[name.as_str()].to_le_bytes()),
                    Arg::TensorMap(name) => slot.copy_from_slice(&maps[name.as_str()].0),
                    Arg::TensorMapPointer(name) => slot.copy_from_slice(&maps[name.as_str()].1.to_le_bytes()),
                    Arg::Bytes(bytes) => slot.copy_from_slice(bytes),
                }
            }
            let request = Launch::new(handles[&launch.ptx], &launch.entry)
                .grid(launch.grid)
                .block(launch.block)
                .cluster(launch.cluster)
                .shared_bytes(launch.shared_bytes)
                .params(params);
            let done = gpu.launch(&request).and_then(|()| gpu.synchronize());
            // A card says whether it failed, and no more.
            let failed = |e: DriverError| Fault::new(FaultKind::IllegalInstruction, e.to_string(), None);
            let report = gpu.report().unwrap_or_else(|| Report { fault: done.err().map(failed), ..Report::default() });
            match outcome.take(report) {
                None => outcome.launches += 1,
                Some(fault) if fault.kind == FaultKind::InvalidLaunch => {
                    return Err(error(format!("launch of {}", launch.entry), fault.message));
                }
                Some(fault) => {
                    outcome.fault = Some(fault);
                    break;
                }
            }
        }
        for name in self.file.dump.keys().chain(self.file.compare.keys()) {
            let mut bytes = vec![0; self.contents[name].0 as usize];
            match gpu.download(&mut bytes, pointers[name.as_str()]) {
                Ok(()) => outcome.dumps.insert(name.clone(), bytes),
                // A card gives nothing back after a fault.
                Err(_) if outcome.fault.is_some() => continue,
                Err(e) => return Err(refused("dump", name)(e)),
            };
        }
        Ok(outcome)
    }

    /// Writes the buffers that the file wants dumped: to a file beside the target, which then takes its name, so that a
    /// reader never sees half of one.
    pub fn write_dumps(&self, outcome: &Outcome) -> Result<(), LaunchError> {
        for (name, target) in &self.file.dump {
            let Some(bytes) = outcome.dumps.get(name) else { continue };
            let mut temporary = target.clone().into_os_string();
            temporary.push(format!(".{}.tmp", std::process::id()));
            let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, target));
            written.map_err(|source| {
                let _ = fs::remove_file(&temporary);
                LaunchError::Io { file: target.clone(), source }
            })?;
        }
        Ok(())
    }

    /// Where two runs differ by more than the file allows: a sentence for each buffer.
    pub fn differences(&self, ours: &Outcome, theirs: &Outcome) -> Vec<String> {
        let pairs = ours.dumps.iter().filter_map(|(name, a)| Some((name, a, theirs.dumps.get(name)?)));
        pairs
            .filter_map(|(name, a, b)| {
                difference(a, b, self.file.compare.get(name).and_then(Option::as_ref)).map(|text| format!("{name}: {text}"))
            })
            .collect()
    }
}

fn difference(ours: &[u8], theirs: &[u8], bound: Option<&Bound>) -> Option<String> {
    let Some(bound) = bound else {
        let wrong = ours.iter().zip(theirs).filter(|(a, b)| a != b).count();
        let first = ours.iter().zip(theirs).position(|(a, b)| a != b)?;
        return Some(format!("{wrong} of {} bytes differ, the first at {first}", ours.len()));
    };
    let pairs = bound.number.read(ours).into_iter().zip(bound.number.read(theirs));
    let mut wrong = pairs.enumerate().filter(|&(_, (x, y))| {
        let equal = x == y || (x.is_nan() && y.is_nan());
        // A NaN on one side is within no bound.
        let within = (x - y).abs() <= bound.abs + bound.rel * y.abs();
        !equal && !within
    });
    let (i, (x, y)) = wrong.next()?;
    let more = wrong.count();
    Some(format!("element {i} is {x} here and {y} there, allowed are {} + {} |there|; and {more} more", bound.abs, bound.rel))
}

impl Number {
    fn read(self, bytes: &[u8]) -> Vec<f64> {
        let pair = |b: &[u8]| [b[0], b[1]];
        let quad = |b: &[u8]| [b[0], b[1], b[2], b[3]];
        match self {
            Number::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes(pair(b)).to_f64()).collect(),
            Number::Bf16 => bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes(pair(b)).to_f64()).collect(),
            Number::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(quad(b)).into()).collect(),
            Number::F64 => bytes
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes([quad(b), quad(&b[4..])].concat().try_into().unwrap_or_default()))
                .collect(),
        }
    }
}
