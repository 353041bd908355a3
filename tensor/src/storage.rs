//! Memory behind tensors.

use crate::device::Device;
use std::any::Any;
use std::sync::Arc;

/// A block of device memory. The CPU's is `tensor::cpu::CpuBuffer`; a backend brings its own type and finds it again through
/// [`Buffer::as_any`].
pub trait Buffer: Any + Send + Sync {
    /// For the backend that made it.
    fn as_any(&self) -> &dyn Any;
    /// For the backend that made it, to write in place what nobody else sees.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// A shared, immutable block of memory on a device; the last owner gives it back.
#[derive(Clone)]
pub struct Storage {
    buffer: Arc<dyn Buffer>,
    device: Device,
}

impl Storage {
    /// Wraps a finished buffer.
    pub fn new(buffer: impl Buffer, device: Device) -> Self {
        Storage { buffer: Arc::new(buffer), device }
    }

    /// Where it lies.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The buffer as the backend's own type; `None` for another backend's.
    pub fn buffer<B: Buffer>(&self) -> Option<&B> {
        self.buffer.as_any().downcast_ref()
    }

    /// The buffer for writing in place; `None` while anyone else shares it, or for another backend's.
    pub fn buffer_mut<B: Buffer>(&mut self) -> Option<&mut B> {
        Arc::get_mut(&mut self.buffer)?.as_any_mut().downcast_mut()
    }

    /// Whether both are the same memory.
    pub fn same(&self, other: &Storage) -> bool {
        Arc::ptr_eq(&self.buffer, &other.buffer)
    }
}
