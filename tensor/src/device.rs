//! [`Device`]: a handle to a [`Backend`].

use crate::backend::{Backend, DeviceError};
use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};

/// Where tensors live and who computes on them. Cheap to clone; equal when it is the same backend object.
#[derive(Clone)]
pub struct Device(Arc<dyn Backend>);

impl Device {
    /// A device over a backend of one's own.
    pub fn new(backend: impl Backend + 'static) -> Device {
        Device(Arc::new(backend))
    }

    /// A device over a backend that needs its own handle, to hand out storage: `make` gets one that does not keep the device
    /// alive.
    pub fn new_cyclic<B: Backend>(make: impl FnOnce(WeakDevice) -> B) -> Device {
        Device(Arc::new_cyclic(|this: &Weak<B>| make(WeakDevice(this.clone()))))
    }

    /// The backend as its own type; `None` for another one.
    pub fn backend<B: Backend>(&self) -> Option<&B> {
        (&*self.0 as &dyn Any).downcast_ref()
    }

    /// Waits for everything that was started and reports a fault that has happened since the last time.
    ///
    /// # Errors
    /// The first fault, out of memory included.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        self.0.synchronize()
    }
}

/// A [`Device`] that its backend can hold without keeping itself alive.
#[derive(Clone)]
pub struct WeakDevice(Weak<dyn Backend>);

impl WeakDevice {
    /// The device, while anyone else holds it.
    pub fn upgrade(&self) -> Option<Device> {
        self.0.upgrade().map(Device)
    }
}

impl fmt::Debug for WeakDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakDevice")
    }
}

impl Deref for Device {
    type Target = dyn Backend;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for Device {}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}
impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.0.name())
    }
}
