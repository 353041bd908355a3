//! The one device, behind one lock, and the work that is given to it.
//!
//! Streams are in order with each other, too: work is done when it is asked for, by the thread that asks. A stream that is being
//! captured keeps its work in a graph instead.

use std::sync::Mutex;
use std::time::Instant;

use ptx::Gpu;
use ptx::observe::Trace;
use ptx::standin::Order;

use crate::call::{Result, failure};
use crate::graph::{Graph, Node};
use crate::handles::Handles;
use crate::host;
use crate::launch::Request;
use crate::memory::{Blocks, Copy, Fill};
use crate::modules::Modules;
use crate::session::session;
use crate::status::Status;

/// See the [module](self).
pub struct Device {
    pub gpu: Gpu,
    pub blocks: Blocks,
    pub modules: Modules,
    pub streams: Handles<Stream>,
    pub events: Handles<Event>,
    pub graphs: Handles<Graph>,
    /// What `ptxi exec` asked for.
    pub order: Order,
    /// Launches so far.
    pub launches: u64,
    /// What was traced of them.
    pub traces: Vec<Trace>,
    /// What ended a kernel: every later call fails with it, as on a card.
    pub fault: Option<Status>,
    /// The graph that the streams without a handle (the default ones) are captured into.
    default_capture: Option<u64>,
    contexts: u64,
}

/// A stream that the program made.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub flags: u32,
    pub priority: i32,
    /// The graph that it is captured into.
    pub capture: Option<u64>,
}

/// An event.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// When it was last recorded, by the host's clock.
    pub at: Option<Instant>,
    /// The graph that it was recorded into.
    pub capture: Option<u64>,
}

/// Work for a stream.
#[derive(Clone, Debug)]
pub enum Work {
    Launch(Request),
    Copy(Copy),
    Fill(Fill),
    /// A function of the program, and what it is given.
    Host(u64, u64),
    /// An event is recorded.
    Record(u64),
    /// A graph as it was when it was added.
    Graph(Vec<Node>),
    Nothing,
}

static DEVICE: Mutex<Option<Box<Device>>> = Mutex::new(None);

/// Does something with the device, whatever state it is in.
pub fn device<T>(work: impl FnOnce(&mut Device) -> Result<T>) -> Result<T> {
    let mut device = DEVICE.lock().unwrap_or_else(|e| e.into_inner());
    work(device.get_or_insert_with(|| Box::new(Device::new())))
}

/// Does something with a device on which no kernel has failed.
pub fn healthy<T>(work: impl FnOnce(&mut Device) -> Result<T>) -> Result<T> {
    device(|d| match d.fault {
        Some(status) => Err(status.into()),
        None => work(d),
    })
}

/// Gives work to a stream: does it, or keeps it where the stream is captured.
pub fn submit(stream: u64, work: Work) -> Result {
    let captured = healthy(|d| {
        let Some(graph) = d.capture(stream)? else { return Ok(false) };
        if let Work::Record(event) = work {
            d.events.get_mut(event)?.capture = Some(graph);
        }
        d.graphs.get_mut(graph)?.append(work.clone());
        Ok(true)
    })?;
    if captured { Ok(()) } else { perform(&work) }
}

/// Does work now. The program's own functions run without the lock.
pub fn perform(work: &Work) -> Result {
    match work {
        Work::Host(function, data) => {
            host::call(*function, *data);
            Ok(())
        }
        Work::Graph(nodes) => nodes.iter().try_for_each(|n| if n.enabled { perform(&n.work) } else { Ok(()) }),
        Work::Launch(request) => healthy(|d| d.launch(request)),
        Work::Copy(copy) => healthy(|d| d.blocks.copy(&mut d.gpu, copy)),
        Work::Fill(fill) => healthy(|d| d.blocks.fill(&mut d.gpu, fill)),
        Work::Record(event) => healthy(|d| {
            *d.events.get_mut(*event)? = Event { at: Some(Instant::now()), capture: None };
            Ok(())
        }),
        Work::Nothing => Ok(()),
    }
}

impl Device {
    fn new() -> Device {
        let order = session().order.clone();
        Device {
            gpu: Gpu::new(order.options.clone()),
            traces: Vec::new(),
            blocks: Blocks::default(),
            modules: Modules::default(),
            streams: Handles::new("stream", 4),
            events: Handles::new("event", 5),
            graphs: Handles::new("graph", 6),
            order,
            launches: 0,
            fault: None,
            default_capture: None,
            contexts: 0,
        }
    }

    /// The number of a context that the program makes, which is the device like any other.
    pub fn new_context(&mut self, primary: u64) -> u64 {
        self.contexts += 1;
        primary + 16 * self.contexts
    }

    /// The graph that a stream is captured into. The default streams are 0, 1 and 2.
    pub fn capture(&self, stream: u64) -> Result<Option<u64>> {
        if stream <= 2 { Ok(self.default_capture) } else { Ok(self.streams.get(stream)?.capture) }
    }

    /// Begins or ends the capture of a stream.
    pub fn set_capture(&mut self, stream: u64, graph: Option<u64>) -> Result {
        if stream <= 2 {
            self.default_capture = graph;
        } else {
            self.streams.get_mut(stream)?.capture = graph;
        }
        Ok(())
    }

    /// Ends the capture into a graph on every stream that joined it.
    pub fn end_capture(&mut self, graph: u64) {
        let streams = self.streams.values_mut().map(|s| &mut s.capture);
        for capture in streams.chain([&mut self.default_capture]) {
            if *capture == Some(graph) {
                *capture = None;
            }
        }
        for event in self.events.values_mut() {
            if event.capture == Some(graph) {
                event.capture = None;
            }
        }
    }

    /// A stream waits for an event: it joins the capture that the event was recorded in.
    pub fn wait(&mut self, stream: u64, event: u64) -> Result {
        if let Some(graph) = self.events.get(event)?.capture {
            if self.capture(stream)?.is_some_and(|own| own != graph) {
                return Err(failure(Status::STREAM_CAPTURE_UNSUPPORTED, "the event belongs to the capture of another graph"));
            }
            self.set_capture(stream, Some(graph))?;
        }
        Ok(())
    }
}
