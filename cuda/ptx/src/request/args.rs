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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Integer,
    Float,
    /// Anything: a struct, or bytes.
    Bytes,
}

impl Argument {
    /// Bytes of a type that only the kernel knows.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Argument {
        Argument { bytes: bytes.into(), align: 1, kind: Kind::Bytes, name: "bytes".into() }
    }

    /// Whether it can be the argument of `param`.
    pub(super) fn fits(&self, param: &ParamInfo) -> Result<(), String> {
        let ParamInfo { name, offset, size, .. } = param;
        let problem = match self.kind {
            _ if self.bytes.len() != *size as usize => format!("it has {} bytes", self.bytes.len()),
            _ if !offset.is_multiple_of(self.align) => {
                format!("it must lie at a multiple of {} bytes, and the parameter is at {offset}", self.align)
            }
            Kind::Integer if param.is_float() => "it is an integer".to_string(),
            Kind::Float if param.is_integer() => "it is a floating-point number".to_string(),
            _ => return Ok(()),
        };
        Err(format!("`{}` {name}, cannot be {}: {problem}", param.declaration(), self.name))
    }
}

/// What can be one argument of a kernel: numbers and `#[repr(C)]` structs without padding ([`bytemuck::NoUninit`]), buffers,
/// tensor maps.
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
        let among = |list: &[TypeId]| list.contains(&id);
        let kind = if among(&[TypeId::of::<f32>(), TypeId::of::<f64>()]) {
            Kind::Float
        } else if among(&[TypeId::of::<u32>(), TypeId::of::<i32>(), TypeId::of::<u64>(), TypeId::of::<i64>()]) {
            Kind::Integer
        } else {
            Kind::Bytes
        };
        let bytes = bytemuck::bytes_of(self).to_vec();
        Argument { bytes, align: align_of::<T>() as u32, kind, name: type_name::<T>().into() }
    }
}

impl Arg for &TensorMap {
    #[track_caller]
    fn argument(&self) -> Argument {
        let bytes = self.encode().unwrap_or_else(|e| panic!("tensor map: {e}"));
        Argument { bytes: bytes.into(), align: MAP_ALIGN as u32, kind: Kind::Bytes, name: "a tensor map".into() }
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
