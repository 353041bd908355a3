//! Key-value caches for generation.

use tensor::{DType, Device, Tensor};

/// Rows are added to a cache's capacity in multiples of this.
const CHUNK: usize = 64;

/// What one attention layer remembers of each sequence.
///
/// Training's form keeps keys and values a head, so that a decoding step computes exactly what the training pass computes; the
/// serving form keeps the compressed latent and the rotary part alone (DeepSeek-V2, section 2.1), an order of magnitude less.
#[derive(Clone, Debug)]
pub enum LayerCache {
    /// Keys `[batch, heads, capacity, qk_head_dim]` and values `[batch, heads, capacity, v_head_dim]`.
    Expanded {
        /// With the rotary part turned.
        keys: Rows,
        /// As they are.
        values: Rows,
    },
    /// Normed latent and turned rotary part, `[batch, 1, capacity, kv_lora_rank + qk_rope_head_dim]`.
    Absorbed(Rows),
}

/// A tensor `[batch, heads, capacity, dim]` whose capacity grows.
#[derive(Clone, Debug)]
pub struct Rows {
    rows: Tensor,
    /// Whether memory begins as `[batch, heads, dim, capacity]`: a CPU's lanes are keys, and so it need not transpose them in every
    /// step. Another backend may lay them out anew.
    transposed: bool,
}

impl Rows {
    pub(crate) fn new(batch: usize, heads: usize, dim: usize, dtype: DType, device: &Device) -> Self {
        Rows { rows: Tensor::zeros([batch, heads, 0, dim], dtype, device), transposed: false }
    }

    /// The same, with the memory transposed.
    pub(crate) fn transposed(self) -> Self {
        Rows { transposed: true, ..self }
    }

    /// Changes the tensor as it lies in memory.
    fn change(&mut self, change: impl FnOnce(&Tensor) -> Tensor) {
        self.rows = if self.transposed { change(&self.rows.t()).t() } else { change(&self.rows) };
    }

    /// Writes `rows` `[batch, heads, len, dim]` from `starts[b]` on.
    pub(crate) fn write(&mut self, starts: &[usize], rows: &Tensor) {
        let need = starts.iter().max().map_or(0, |s| s + rows.dims()[2]);
        let capacity = self.rows.dims()[2];
        if need > capacity {
            let along = if self.transposed { 3 } else { 2 };
            self.change(|rows| {
                let mut more = rows.dims().to_vec();
                more[along] = need.next_multiple_of(CHUNK) - capacity;
                Tensor::cat(&[rows.clone(), Tensor::zeros(more, rows.dtype(), rows.device())], along as isize)
            });
        }
        self.rows.write_rows(starts, rows);
    }

    pub(crate) fn tensor(&self) -> &Tensor {
        &self.rows
    }

    fn select(&mut self, sequences: &Tensor) {
        self.change(|rows| rows.index_select(0, sequences));
    }
}

/// The caches of all layers of a model for a batch of sequences.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(crate) layers: Vec<LayerCache>,
}

impl KvCache {
    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let size = |rows: &Rows| rows.rows.numel() * rows.rows.dtype().size();
        let layer = |layer: &LayerCache| match layer {
            LayerCache::Expanded { keys, values } => size(keys) + size(values),
            LayerCache::Absorbed(rows) => size(rows),
        };
        self.layers.iter().map(layer).sum()
    }

    /// Keeps the sequences at the positions `sequences` (1-d integers; repeated ones are copied), in that order.
    ///
    /// # Panics
    /// If a position does not exist.
    pub fn select(&mut self, sequences: &Tensor) {
        for layer in &mut self.layers {
            match layer {
                LayerCache::Expanded { keys, values } => {
                    keys.select(sequences);
                    values.select(sequences);
                }
                LayerCache::Absorbed(rows) => rows.select(sequences),
            }
        }
    }
}
