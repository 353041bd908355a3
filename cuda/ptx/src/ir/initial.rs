//! Initial values of variables, as bytes and addresses to fill in.

use crate::text::ast::{self, Init, Type};

/// An initial value on its way to bytes.
pub struct Fill {
    pub ty: Type,
    pub element: usize,
    pub bytes: Vec<u8>,
    /// Addresses: place, symbol, offset, mask.
    pub found: Vec<(usize, String, i64, u64)>,
}

impl Fill {
    /// Writes `init`, whose extents are `dims`, at `at`; `size` is the bytes of a whole (vector) element.
    pub fn put(&mut self, init: &Init, dims: &[u64], at: usize, size: usize) -> Result<(), String> {
        match init {
            Init::List(list) => {
                let (count, stride) = match dims.split_first() {
                    Some((n, rest)) => (*n, rest.iter().product::<u64>() as usize * size),
                    // A vector element's own braces.
                    None => ((size / self.element) as u64, self.element),
                };
                // A flat list may fill an array of several dimensions.
                let flat = dims.len() > 1 && list.iter().all(|i| matches!(i, Init::Value(_)));
                let (count, stride) = if flat { (dims.iter().product(), size) } else { (count, stride) };
                if list.len() as u64 > count {
                    return Err(format!("{} values for {count} places", list.len()));
                }
                let inner = if flat { &[] } else { dims.get(1..).unwrap_or(&[]) };
                for (i, value) in list.iter().enumerate() {
                    let element = if dims.is_empty() { self.element } else { size };
                    self.put(value, inner, at + i * stride, element)?;
                }
                Ok(())
            }
            Init::Value(v) => {
                let bits = match v {
                    ast::InitValue::Int(_) if self.ty.is_float() => {
                        return Err(format!("an integer is no value of .{}", self.ty.name()));
                    }
                    ast::InitValue::Int(v) => *v as u64,
                    ast::InitValue::Float(l) => super::decode::literal_bits(*l, self.ty)?,
                    ast::InitValue::Symbol { name, offset, mask, .. } => {
                        self.found.push((at, name.clone(), *offset, *mask));
                        0
                    }
                };
                let target = self.bytes.get_mut(at..at + self.element).ok_or("the value lies outside the variable")?;
                let wide = u128::from(bits).to_le_bytes();
                target.copy_from_slice(&wide[..target.len()]);
                Ok(())
            }
        }
    }
}
