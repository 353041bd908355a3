//! A launch under way is asked where it stands, or ended, from outside.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Asks launches under way where they stand, or ends them: from another thread, for instance when somebody presses Ctrl-C. The
/// launches look at it now and then, so nothing happens at once.
#[derive(Clone)]
pub struct Interrupt(Arc<State>);

struct State {
    looks: AtomicU32,
    stop: AtomicBool,
    show: Box<dyn Fn(&str) + Send + Sync>,
}

impl Interrupt {
    /// `show` is given a table of where all warps of a launch stand, each time that [`Interrupt::look`] asks.
    pub fn new(show: impl Fn(&str) + Send + Sync + 'static) -> Interrupt {
        Interrupt(Arc::new(State { looks: AtomicU32::new(0), stop: AtomicBool::new(false), show: Box::new(show) }))
    }

    /// Every launch that has this object says where it stands, and goes on.
    pub fn look(&self) {
        self.0.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// Every launch that has this object ends with a fault of the kind [`Interrupted`](crate::FaultKind::Interrupted).
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }

    /// Whether [`Interrupt::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.stop.load(Ordering::Relaxed)
    }

    /// How often was asked; a launch remembers how often it has answered.
    pub(crate) fn looks(&self) -> u32 {
        self.0.looks.load(Ordering::Relaxed)
    }

    pub(crate) fn show(&self, table: &str) {
        (self.0.show)(table);
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupt({})", if self.is_stopped() { "stopped" } else { "runs" })
    }
}

/// Two are equal if they are one.
impl PartialEq for Interrupt {
    fn eq(&self, other: &Interrupt) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Interrupt {}
