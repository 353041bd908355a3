//! Running a launch file on a GPU, interpreted or real.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::check::Modules;
use super::error::LaunchError;
use super::{Bound, Contents, LaunchFile, Number, Source, Value, file};
use crate::counters::Counters;
use crate::driver::{DevicePtr, Driver, DriverError};
use crate::exec::module::parsed;
use crate::hazard::Hazard;
use crate::observe::Observed;
use crate::replace;
use crate::request::{Argument, Fault, FaultKind, Launch, Report};
use crate::tensor_map::MAP_BYTES;

/// A launch file whose modules are parsed and whose contents are loaded: it can be run again and again.
pub struct Prepared {
    file: LaunchFile,
    modules: Modules,
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
    /// What was seen of each launch.
    pub observed: Vec<Observed>,
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
        self.observed.push(report.observed);
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

    /// Drops the contents of buffers that only a kernel's arithmetic needs: random numbers, and a byte that fills more than
    /// [`LaunchFile::KNOWN`] bytes; and with them what was to be read back. What remains decides what a kernel does, as far as its time is concerned.
    pub fn without_data(mut self) -> LaunchFile {
        for contents in self.buffers.values_mut() {
            let only_data = match &contents.source {
                Some(Source::Random(_)) => true,
                Some(Source::Fill(_)) => contents.bytes.is_some_and(|bytes| bytes > Self::KNOWN),
                _ => false,
            };
            if only_data {
                contents.source = None;
            }
        }
        self.dump.clear();
        self.compare.clear();
        self
    }

    /// See [`LaunchFile::without_data`].
    pub const KNOWN: u64 = 1 << 20;

    /// Reads and checks all that it names.
    ///
    /// # Errors
    /// If a file cannot be read, the PTX is not understood, or something does not fit the kernel's parameters or its
    /// module's variables.
    pub fn prepare(mut self) -> Result<Prepared, LaunchError> {
        let mut modules = Modules::new();
        for launch in &self.launches {
            if !modules.contains_key(&launch.ptx) {
                let text = file::read_text(&launch.ptx)?;
                let module = parsed(&launch.ptx.display().to_string(), &text).map_err(|e| LaunchError::Ptx(e.to_string()))?;
                modules.insert(launch.ptx.clone(), (module, text));
            }
        }
        self.buffers.values_mut().chain(self.variables.values_mut()).try_for_each(|c| c.load())?;
        for launch in &mut self.launches {
            launch.variables.values_mut().try_for_each(|c| c.load())?;
            launch.args.iter_mut().try_for_each(|v| v.load())?;
        }
        self.check(&modules)?;
        Ok(Prepared { file: self, modules })
    }
}

/// Where everything lies on a GPU.
#[derive(Default)]
struct Places<'a> {
    buffers: BTreeMap<&'a str, DevicePtr>,
    maps: BTreeMap<&'a str, ([u8; MAP_BYTES], DevicePtr)>,
    /// Module variables by file and name.
    variables: BTreeMap<(&'a Path, &'a str), DevicePtr>,
}

impl Places<'_> {
    /// The bytes of a value, for a launch of a module or for memory that belongs to none.
    fn bytes(&self, value: &Value, module: Option<&Path>) -> Vec<u8> {
        let address = |at: DevicePtr| at.to_le_bytes().to_vec();
        match value {
            Value::Buffer { buffer, offset } => address(self.buffers[buffer.as_str()] + offset),
            Value::TensorMap(name) => self.maps[name.as_str()].0.to_vec(),
            Value::TensorMapPointer(name) => address(self.maps[name.as_str()].1),
            Value::Variable { variable, offset } => {
                // What the own module lacks is another's.
                let own = module.and_then(|module| self.variables.get(&(module, variable.as_str())));
                let any = || self.variables.iter().find(|((_, name), _)| name == variable).map(|(_, at)| at);
                address(own.or_else(any).copied().unwrap_or(0) + offset)
            }
            other => other.plain().unwrap_or_default(),
        }
    }

    /// Writes contents to memory. What they do not say stays as it is.
    fn put(&self, gpu: &mut dyn Driver, at: DevicePtr, contents: &Contents, module: Option<&Path>) -> Result<(), DriverError> {
        if let Some(base) = contents.base() {
            gpu.upload(at, base)?;
        }
        contents.fields.iter().try_for_each(|f| gpu.upload(at + f.at, &self.bytes(&f.value, module)))
    }
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
        let mut places = Places::default();
        for (name, contents) in &self.file.buffers {
            let ptr = gpu.alloc(contents.len().unwrap_or(0).max(1)).map_err(refused("buffers", name))?;
            places.buffers.insert(name, ptr);
        }
        for (name, spec) in &self.file.tensor_maps {
            let encoded = gpu.tensor_map(&spec.at(places.buffers[spec.buffer.as_str()])).map_err(refused("tensor_maps", name))?;
            let ptr = gpu.alloc(encoded.len() as u64).map_err(refused("tensor_maps", name))?;
            gpu.upload(ptr, &encoded).map_err(refused("tensor_maps", name))?;
            places.maps.insert(name, (encoded, ptr));
        }
        let mut handles = BTreeMap::new();
        for (path, (module, text)) in &self.modules {
            let handle = gpu.load(&path.display().to_string(), text)?;
            for (name, _) in module.variables() {
                places.variables.insert((path, name), gpu.variable(handle, name)?.0);
            }
            handles.insert(path, handle);
        }
        for (name, contents) in &self.file.buffers {
            places.put(gpu, places.buffers[name.as_str()], contents, None).map_err(refused("buffers", name))?;
        }
        for (name, contents) in &self.file.variables {
            for ((path, _), at) in places.variables.iter().filter(|((_, variable), _)| variable == name) {
                places.put(gpu, *at, contents, Some(path)).map_err(refused("variables", name))?;
            }
        }

        let mut outcome = Outcome::default();
        for launch in &self.file.launches {
            let module = launch.ptx.as_path();
            for (name, contents) in &launch.variables {
                let at = places.variables[&(module, name.as_str())];
                places.put(gpu, at, contents, Some(module)).map_err(refused("variables", name))?;
            }
            let params = self.modules[&launch.ptx].0.params(&launch.entry).unwrap_or_default();
            let arguments = launch.args.iter().zip(params);
            let arguments: Vec<Argument> =
                arguments.map(|(arg, param)| arg.argument(param.size, &|value| places.bytes(value, Some(module)))).collect();
            let request = Launch::new(handles[&launch.ptx], &launch.entry)
                .grid(launch.grid)
                .block(launch.block)
                .cluster(launch.cluster)
                .shared_bytes(launch.shared_bytes)
                .cooperative(launch.cooperative)
                .dependent(launch.dependent)
                .registers(launch.registers)
                .step_limit(launch.step_limit)
                .time_limit(launch.time_limit.and_then(|s| Duration::try_from_secs_f64(s).ok()))
                .args(arguments);
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
            let mut bytes = vec![0; self.file.buffers[name].len().unwrap_or(0) as usize];
            match gpu.download(&mut bytes, places.buffers[name.as_str()]) {
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
            replace::with(target, |out| out.write_all(bytes))
                .map_err(|source| LaunchError::Io { file: target.clone(), source })?;
        }
        Ok(())
    }

    /// Where two runs differ by more than the file allows: a sentence for each buffer.
    pub fn differences(&self, ours: &Outcome, theirs: &Outcome) -> Vec<String> {
        let pairs = ours.dumps.iter().filter_map(|(name, a)| Some((name, a, theirs.dumps.get(name)?)));
        pairs
            .filter_map(|(name, a, b)| difference(a, b, self.file.compare.get(name)).map(|text| format!("{name}: {text}")))
            .collect()
    }
}

fn difference(ours: &[u8], theirs: &[u8], bound: Option<&Bound>) -> Option<String> {
    let Some(Bound { dtype: Some(number), abs, rel }) = bound else {
        let wrong = ours.iter().zip(theirs).filter(|(a, b)| a != b).count();
        let first = ours.iter().zip(theirs).position(|(a, b)| a != b)?;
        return Some(format!("{wrong} of {} bytes differ, the first at {first}", ours.len()));
    };
    let pairs = number.read(ours).into_iter().zip(number.read(theirs));
    let mut wrong = pairs.enumerate().filter(|&(_, (x, y))| {
        let equal = x == y || (x.is_nan() && y.is_nan());
        // A NaN on one side is within no bound.
        let within = (x - y).abs() <= abs + rel * y.abs();
        !equal && !within
    });
    let (i, (x, y)) = wrong.next()?;
    let more = wrong.count();
    Some(format!("element {i} is {x} here and {y} there, allowed are {abs} + {rel} |there|; and {more} more"))
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
