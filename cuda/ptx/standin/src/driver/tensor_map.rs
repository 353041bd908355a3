//! Tensor maps. Their 128 bytes are the interpreter's own, and mean nothing to a card.

use ptx::tensor_map::{ElementType, Interleave, L2Promotion, MAP_BYTES, OobFill, Swizzle, TensorMap};

use crate::call::{Result, failure, offer};
use crate::host;
use crate::status::Status;

/// One of a list by its number in NVIDIA's header.
fn one<T: Copy>(list: &[T], number: u32, what: &str) -> Result<T> {
    let unknown = || failure(Status::INVALID_VALUE, format!("{what} {number} is not one that is offered"));
    list.get(number as usize).copied().ok_or_else(unknown)
}

offer! { driver;
    cuTensorMapEncodeTiled(
        out: u64, element: u32, rank: u32, address: u64, dims: *const u64, strides: *const u64, box_dims: *const u32,
        element_strides: *const u32, interleave: u32, swizzle: u32, promotion: u32, fill: u32,
    ) {
        let rank = rank as usize;
        if !(1..=5).contains(&rank) {
            return Err(failure(Status::INVALID_VALUE, format!("rank {rank}: a tensor map has 1 to 5 dimensions")));
        }
        let element = ElementType::from_cuda(element)
            .ok_or_else(|| failure(Status::INVALID_VALUE, format!("element type {element} is not one that is offered")))?;
        let map = TensorMap {
            element,
            address,
            dims: host::list(dims, rank)?,
            strides: host::list(strides, rank - 1)?,
            box_dims: host::list(box_dims, rank)?,
            element_strides: host::list(element_strides, rank)?,
            interleave: one(&[Interleave::None, Interleave::B16, Interleave::B32], interleave, "interleave")?,
            swizzle: one(&[Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128], swizzle, "swizzle")?,
            l2_promotion: one(&[L2Promotion::None, L2Promotion::B64, L2Promotion::B128, L2Promotion::B256], promotion, "promotion")?,
            oob_fill: one(&[OobFill::Zero, OobFill::Nan], fill, "fill")?,
        };
        host::write(out, &map.encode().map_err(|e| failure(Status::INVALID_VALUE, e.to_string()))?);
        Ok(())
    }
    cuTensorMapReplaceAddress(map: u64, address: u64) {
        let bytes: [u8; MAP_BYTES] = host::get(map as *const [u8; MAP_BYTES])?;
        let unknown = || failure(Status::INVALID_VALUE, "these bytes are no tensor map");
        let map_of = TensorMap { address, ..TensorMap::decode(&bytes).ok_or_else(unknown)? };
        host::write(map, &map_of.encode().map_err(|e| failure(Status::INVALID_VALUE, e.to_string()))?);
        Ok(())
    }
}
