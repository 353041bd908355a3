//! Memory of a [`Gpu`] as a test uses it: typed values in and out.

use std::ops::Range;

use bytemuck::{AnyBitPattern, NoUninit};

use crate::gpu::Gpu;
use crate::mem::MemoryError;
use crate::request::{Arg, Argument, Kind};

/// Global memory of a [`Gpu`]: a handle, which can be copied and is a pointer when passed to a kernel. It lives as long as the
/// GPU, or until [`Gpu::free`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Buffer {
    pub(crate) ptr: u64,
    pub(crate) bytes: u64,
}

impl Buffer {
    /// The address of its first byte.
    pub fn ptr(self) -> u64 {
        self.ptr
    }

    /// How many bytes it has.
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// The part that these bytes are.
    ///
    /// # Panics
    /// If they leave the buffer.
    #[track_caller]
    pub fn part(self, bytes: Range<u64>) -> Buffer {
        let inside = bytes.start <= bytes.end && bytes.end <= self.bytes;
        assert!(inside, "bytes {bytes:?} leave a buffer of {}", self.bytes);
        Buffer { ptr: self.ptr + bytes.start, bytes: bytes.end - bytes.start }
    }

    /// How many values of a type it holds.
    #[track_caller]
    fn len<T>(self) -> usize {
        let size = size_of::<T>() as u64;
        assert!(
            size > 0 && self.bytes.is_multiple_of(size),
            "a buffer of {} bytes holds no whole number of {}",
            self.bytes,
            std::any::type_name::<T>()
        );
        (self.bytes / size) as usize
    }
}

/// A pointer.
impl Arg for Buffer {
    fn argument(&self) -> Argument {
        Argument::new(self.ptr.to_le_bytes().into(), 8, Kind::Integer, "a buffer's address")
    }
}

impl Gpu {
    /// A new buffer with these values.
    ///
    /// # Panics
    /// If there is no memory; [`Gpu::alloc`] and [`Gpu::write`] give an error instead.
    #[track_caller]
    pub fn upload<T: NoUninit>(&mut self, values: &[T]) -> Buffer {
        let buffer = self.uninit::<T>(values.len());
        self.store(buffer, values);
        buffer
    }

    /// A new buffer for `len` values, all bits 0.
    ///
    /// # Panics
    /// As [`Gpu::upload`].
    #[track_caller]
    pub fn zeros<T>(&mut self, len: usize) -> Buffer {
        let buffer = self.uninit::<T>(len);
        self.fill(buffer.ptr, 0, buffer.bytes).unwrap_or_else(|e| panic!("{e}"));
        buffer
    }

    /// A new buffer for `len` values, uninitialised: a kernel that uses one before it was written has a hazard.
    ///
    /// # Panics
    /// As [`Gpu::upload`].
    #[track_caller]
    pub fn uninit<T>(&mut self, len: usize) -> Buffer {
        let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
        let ptr = self.alloc(bytes).unwrap_or_else(|e| panic!("{e}"));
        Buffer { ptr, bytes }
    }

    /// Writes values to the start of a buffer.
    ///
    /// # Panics
    /// If they do not fit, or the buffer was freed.
    #[track_caller]
    pub fn store<T: NoUninit>(&mut self, buffer: Buffer, values: &[T]) {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        assert!(bytes.len() as u64 <= buffer.bytes, "{} bytes do not fit into a buffer of {}", bytes.len(), buffer.bytes);
        self.write(buffer.ptr, bytes).unwrap_or_else(|e| panic!("{e}"));
    }

    /// The values in a buffer.
    ///
    /// # Errors
    /// [`MemoryError::NeverWritten`] where nothing wrote one of them; see [`Gpu::download_written`].
    ///
    /// # Panics
    /// If the buffer holds no whole number of them.
    #[track_caller]
    pub fn download<T: AnyBitPattern>(&self, buffer: Buffer) -> Result<Vec<T>, MemoryError> {
        let len = buffer.len::<T>() * size_of::<T>();
        let (bytes, written) = self.read_initialized(buffer.ptr, len)?;
        match written.iter().position(|&w| !w) {
            Some(at) => Err(MemoryError::NeverWritten { address: buffer.ptr, at, len }),
            None => Ok(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()),
        }
    }

    /// The values in a buffer, `None` for those that nothing wrote (or not wholly).
    ///
    /// # Errors
    /// If the buffer was freed.
    ///
    /// # Panics
    /// As [`Gpu::download`].
    #[track_caller]
    pub fn download_written<T: AnyBitPattern>(&self, buffer: Buffer) -> Result<Vec<Option<T>>, MemoryError> {
        let size = size_of::<T>();
        let (bytes, written) = self.read_initialized(buffer.ptr, buffer.len::<T>() * size)?;
        let values = bytes.chunks_exact(size).zip(written.chunks_exact(size));
        Ok(values.map(|(bytes, written)| written.iter().all(|&w| w).then(|| bytemuck::pod_read_unaligned(bytes))).collect())
    }
}
