//! Arguments of a kernel: typed values, checked against its `.param`s.

use std::any::{TypeId, type_name};

use bytemuck::NoUninit;

use crate::ir::ParamInfo;
use crate::tensor_map::{MAP_ALIGN, TensorMap};

/// The bytes of one argument, and what is known of their type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    pub(super) bytes: Vec<u8>,
    align: u32,
    kind: Kind,
    /// For messages.
    name: String,
}

/// What a tensor map is called.
const MAP: &str = "a tensor map";

/// What a parameter's type is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Float,
    /// Anything: a struct, or bytes.
    Bytes,
}

impl Argument {
    /// Bytes of a type called `name`, to lie at a multiple of `align`.
    pub(crate) fn new(bytes: Vec<u8>, align: u32, kind: Kind, name: &str) -> Argument {
        Argument { bytes, align, kind, name: name.into() }
    }

    /// Bytes of a type that only the kernel knows.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Argument {
        Argument::new(bytes.into(), 1, Kind::Bytes, "bytes")
    }

    /// A struct of so many bytes, all 0, to be filled by [`Argument::with`]: what [`bytemuck::NoUninit`] cannot say, because it
    /// has padding, pointers or tensor maps in it.
    pub fn structure(bytes: usize) -> Argument {
        Argument::new(vec![0; bytes], 1, Kind::Bytes, "a struct")
    }

    /// The same with a field `at` so many bytes from its start.
    ///
    /// # Panics
    /// If the field leaves the struct, or is a tensor map that does not lie at a multiple of 64 bytes or breaks a limit.
    #[track_caller]
    pub fn with(mut self, at: usize, field: impl Arg) -> Argument {
        let field = field.argument();
        let (end, size) = (at.saturating_add(field.bytes.len()), self.bytes.len());
        assert!(end <= size, "{} at byte {at} leaves a struct of {size} bytes", field.name);
        if field.name == MAP {
            assert!(at.is_multiple_of(MAP_ALIGN as usize), "{MAP} lies at a multiple of {MAP_ALIGN} bytes, not at {at}");
            self.align = MAP_ALIGN as u32;
        }
        self.bytes[at..end].copy_from_slice(&field.bytes);
        self
    }

    /// Whether it can be the argument of `param`.
    pub(crate) fn fits(&self, param: &ParamInfo) -> Result<(), String> {
        let ParamInfo { offset, size, .. } = param;
        let Argument { bytes, align, kind, name } = self;
        let problem = match kind {
            _ if bytes.len() != *size as usize => format!("takes {size} bytes, found {}: {name}", bytes.len()),
            _ if !offset.is_multiple_of(*align) => {
                format!("is at byte {offset}, and {name} must lie at a multiple of {align}")
            }
            Kind::Integer if param.is_float() => format!("takes a floating-point number, found {name}"),
            Kind::Float if param.is_integer() => format!("takes an integer, found {name}"),
            _ => return Ok(()),
        };
        Err(format!("`.param {}` {problem}", param.declaration()))
    }
}

/// What can be one argument of a kernel: numbers and `#[repr(C)]` structs without padding ([`bytemuck::NoUninit`]), a
/// [`Buffer`](crate::Buffer), a tensor map, an [`Argument`] built by field.
pub trait Arg {
    /// Its bytes.
    ///
    /// # Panics
    /// If it is a tensor map that breaks a limit.
    fn argument(&self) -> Argument;
}

impl<T: NoUninit> Arg for T {
    fn argument(&self) -> Argument {
        let id = TypeId::of::<T>();
        let floats = [TypeId::of::<f32>(), TypeId::of::<f64>()];
        let integers = [
            TypeId::of::<u8>(),
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
            TypeId::of::<i8>(),
            TypeId::of::<i16>(),
            TypeId::of::<i32>(),
            TypeId::of::<i64>(),
            TypeId::of::<isize>(),
        ];
        let kind = if floats.contains(&id) {
            Kind::Float
        } else if integers.contains(&id) {
            Kind::Integer
        } else {
            Kind::Bytes
        };
        Argument::new(bytemuck::bytes_of(self).to_vec(), align_of::<T>() as u32, kind, type_name::<T>())
    }
}

impl Arg for &TensorMap {
    #[track_caller]
    fn argument(&self) -> Argument {
        let bytes = self.encode().unwrap_or_else(|e| panic!("tensor map: {e}"));
        Argument::new(bytes.into(), MAP_ALIGN as u32, Kind::Bytes, MAP)
    }
}

impl Arg for Argument {
    fn argument(&self) -> Argument {
        self.clone()
    }
}

/// All arguments of a kernel: a tuple of [`Arg`]s, or a list of [`Argument`]s.
pub trait Args {
    /// One for each parameter.
    ///
    /// # Panics
    /// As [`Arg::argument`].
    fn arguments(&self) -> Vec<Argument>;
}

impl Args for Vec<Argument> {
    fn arguments(&self) -> Vec<Argument> {
        self.clone()
    }
}

macro_rules! tuples {
    ($first:ident $($rest:ident)*) => {
        impl<$first: Arg, $($rest: Arg),*> Args for ($first, $($rest,)*) {
            #[track_caller]
            #[allow(non_snake_case)]
            fn arguments(&self) -> Vec<Argument> {
                let ($first, $($rest,)*) = self;
                vec![$first.argument(), $($rest.argument()),*]
            }
        }
        tuples! { $($rest)* }
    };
    () => {};
}
tuples! { A B C D E F G H I J K L M N O P Q R S T U V W X }
