//! Launches: what a card would refuse is refused, the rest runs, and what was found wrong is told.

use std::time::Instant;

use ptx::observe::{Observe, Observed, Trace};
use ptx::standin::Record;
use ptx::{FaultKind, HazardKind, KernelInfo, Launch, ParamInfo};

use crate::call::{Failure, Result, failure};
use crate::capture::capture;
use crate::device::Device;
use crate::host;
use crate::modules::{Kernel, Loaded, SHARED_BY_DEFAULT};
use crate::occupancy;
use crate::properties;
use crate::session::session;
use crate::status::Status;
use crate::types::LaunchAttribute;

/// A launch as the program asked for it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The kernel's handle.
    pub kernel: u64,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// `[1, 1, 1]` for what the kernel demands.
    pub cluster: [u32; 3],
    pub shared_bytes: u32,
    pub cooperative: bool,
    /// It may begin before the one before it has ended.
    pub dependent: bool,
    pub params: Vec<u8>,
}

/// Clusters of up to so many CTAs need no leave.
const PORTABLE_CLUSTER: u32 = 8;

impl Device {
    /// The block of parameters of a kernel, from a list of pointers to each.
    pub fn params(&mut self, kernel: u64, list: *const u64) -> Result<Vec<u8>> {
        let name = self.modules.kernels.get(kernel)?.name.clone();
        let loaded = self.modules.loaded(&mut self.gpu, &mut self.blocks, kernel);
        if let Err(Failure { status, why: Some(why) }) = &loaded
            && [Status::INVALID_PTX, Status::NO_BINARY, Status::INVALID_IMAGE].contains(status)
        {
            // A program that does not look at what its launches return would end as if all were well.
            session().refuse(&format!("{name} was not launched: {why}"));
            return Err((*status).into());
        }
        let (kernel, loaded) = loaded?;
        let params = loaded.params(&kernel.name);
        let mut block = vec![0; params.last().map_or(0, |p| p.offset + p.size) as usize];
        for (param, from) in params.iter().zip(host::list(list, params.len())?) {
            let (at, len) = (param.offset as usize, param.size as usize);
            block[at..at + len].copy_from_slice(host::bytes(from, len));
        }
        Ok(block)
    }

    /// The kernel that a function stands for, with what its PTX says.
    pub fn described<T>(&mut self, function: u64, work: impl FnOnce(&mut Kernel, KernelInfo) -> Result<T>) -> Result<T> {
        let handle = self.modules.find(function)?;
        let (kernel, loaded) = self.modules.loaded(&mut self.gpu, &mut self.blocks, handle)?;
        let info = loaded.info(&kernel.name)?;
        work(self.modules.kernels.get_mut(handle)?, info)
    }

    /// The parameters of the kernel that a function stands for.
    pub fn params_of(&mut self, function: u64) -> Result<Vec<ParamInfo>> {
        let handle = self.modules.find(function)?;
        let (kernel, loaded) = self.modules.loaded(&mut self.gpu, &mut self.blocks, handle)?;
        Ok(loaded.params(&kernel.name).to_vec())
    }

    /// Runs a kernel to its end.
    pub fn launch(&mut self, request: &Request) -> Result {
        let (kernel, loaded) = self.modules.loaded(&mut self.gpu, &mut self.blocks, request.kernel)?;
        self.check(request, &loaded)?;
        self.launches += 1;
        let number = self.launches;
        let chosen = self.order.chooses(&kernel.name, number);
        self.gpu.look_for_hazards(self.order.options.hazards && chosen);
        self.gpu.observe(if chosen { self.order.options.observe.clone() } else { Observe::default() });
        self.blocks.before_launch(&mut self.gpu)?;
        if let Some(folder) = self.order.capture.as_ref().filter(|_| chosen) {
            capture(folder, number, (&kernel, &loaded), request, &self.gpu, &self.blocks)?;
            if self.order.capture_only {
                return Ok(());
            }
        }
        let start = Instant::now();
        let launch = Launch::new(loaded.handle, kernel.name.clone())
            .grid(request.grid)
            .block(request.block)
            .cluster(request.cluster)
            .shared_bytes(request.shared_bytes)
            .cooperative(request.cooperative)
            .dependent(request.dependent)
            .params(request.params.clone());
        let report = self.gpu.launch(&launch);
        if let Some(fault) = report.fault.as_ref().filter(|f| f.kind == FaultKind::InvalidLaunch) {
            return Err(failure(Status::INVALID_CONFIGURATION, format!("{}: {}", kernel.name, fault.message)));
        }
        host::print(&report.printed);
        let result = match &report.fault {
            None => Ok(()),
            Some(fault) => {
                let status = status_of(fault.kind, report.hazards.last().map(|h| h.kind));
                self.fault = Some(status);
                Err(status.into())
            }
        };
        self.show(report.observed)?;
        let counters = report.counters.filter(|_| chosen);
        if let Some(counters) = &counters {
            eprintln!("{counters}");
        }
        let record = Record {
            launch: number,
            kernel: kernel.name,
            grid: request.grid,
            block: request.block,
            instructions: report.instructions,
            seconds: start.elapsed().as_secs_f64(),
            hazards: report.hazards,
            strict: report.strict,
            suppressed: 0,
            fault: report.fault.map(|f| f.to_string()),
            counters: counters.map(|c| c.to_json()),
        };
        session().tell(record);
        self.blocks.after_launch(&self.gpu)?;
        result
    }

    /// Says what was asked to be seen; the file of the trace is whole after each launch.
    fn show(&mut self, observed: Observed) -> Result {
        observed.sightings.iter().for_each(|seen| eprintln!("{seen}"));
        observed.writes.iter().for_each(|write| eprintln!("{write}"));
        let (Some(file), Some(trace)) = (&self.order.trace, observed.trace) else { return Ok(()) };
        if let Some(cut) = &trace.cut {
            eprintln!("ptxi exec: {}: {cut}", file.display());
        }
        self.traces.push(trace);
        Trace::write(&self.traces, file).map_err(|e| failure(Status::UNKNOWN, format!("{}: {e}", file.display())))
    }

    /// What a card checks before a kernel starts, and the interpreter does not.
    fn check(&self, request: &Request, loaded: &Loaded) -> Result {
        let kernel = self.modules.kernels.get(request.kernel)?;
        let info = loaded.info(&kernel.name)?;
        if request.shared_bytes > kernel.max_dynamic_shared.max(SHARED_BY_DEFAULT.saturating_sub(info.static_shared)) {
            let why = format!(
                "{}: {} bytes of dynamic shared memory; more than 48 KiB need cudaFuncSetAttribute, which allows {} now",
                kernel.name, request.shared_bytes, kernel.max_dynamic_shared
            );
            return Err(failure(Status::INVALID_VALUE, why));
        }
        let ctas: u64 = request.grid.iter().map(|&n| u64::from(n)).product();
        let threads = request.block.iter().product();
        let room = properties::multiprocessors() * occupancy::blocks(&info, threads, request.shared_bytes);
        if request.cooperative && ctas > room.into() {
            let why = format!("{}: a cooperative launch of {ctas} CTAs; the device holds {room} of them", kernel.name);
            return Err(failure(Status::COOPERATIVE_LAUNCH_TOO_LARGE, why));
        }
        let cluster = info.reqnctapercluster.unwrap_or(request.cluster);
        let ctas: u32 = cluster.iter().product();
        if ctas > PORTABLE_CLUSTER && !kernel.large_clusters {
            let why = format!(
                "{}: a cluster of {ctas} CTAs; more than {PORTABLE_CLUSTER} need cudaFuncAttributeNonPortableClusterSizeAllowed",
                kernel.name
            );
            return Err(failure(Status::INVALID_CLUSTER_SIZE, why));
        }
        Ok(())
    }
}

/// What a card says of a kernel that ended so.
fn status_of(kind: FaultKind, hazard: Option<HazardKind>) -> Status {
    match kind {
        FaultKind::Assert => Status::ASSERT,
        FaultKind::IllegalAddress if hazard == Some(HazardKind::Misaligned) => Status::MISALIGNED_ADDRESS,
        FaultKind::IllegalAddress => Status::ILLEGAL_ADDRESS,
        FaultKind::Deadlock | FaultKind::StepLimit => Status::LAUNCH_TIMEOUT,
        FaultKind::IllegalInstruction => Status::ILLEGAL_INSTRUCTION,
        _ => Status::LAUNCH_FAILED,
    }
}

/// What the attributes of a launch say that matters here.
pub struct Extra {
    pub cluster: [u32; 3],
    pub cooperative: bool,
    pub dependent: bool,
}

/// Reads launch attributes. Hints (priorities, cache windows, memory domains, preferred clusters) change nothing.
pub fn attributes(list: &[LaunchAttribute]) -> Result<Extra> {
    let mut extra = Extra { cluster: [1, 1, 1], cooperative: false, dependent: false };
    for attribute in list {
        let [x, y, z, ..] = attribute.value;
        match attribute.id {
            2 => extra.cooperative = x != 0,
            4 => extra.cluster = [x, y, z],
            6 => extra.dependent = x != 0,
            0 | 1 | 3 | 5 | 8..=11 | 14 | 16..=18 => {}
            7 | 12 => return Err(failure(Status::NOT_SUPPORTED, "events that a kernel triggers while it runs are not offered")),
            id => return Err(failure(Status::NOT_SUPPORTED, format!("launch attribute {id} is not offered"))),
        }
    }
    Ok(extra)
}
