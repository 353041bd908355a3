//! Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
//!
//! Keys and values are projected up from one small latent a token. The *expanded* form does so for every head and then attends
//! as usual: training and rollouts. The *absorbed* form moves the up-projections over to the query and the output, so that the
//! latent itself is key and value of all heads: for serving, where the cache is what costs. Both compute the same function.

use crate::cache::{LayerCache, Rows};
use crate::config::Config;
use crate::init::Init;
use crate::layers::{Linear, RmsNorm};
use crate::module::{Module, Path, Visitor};
use crate::rope::Angles;
use autograd::Var;
use tensor::{DType, Device, Tensor};

/// The epsilon of the norms inside attention, which no config key changes.
const NORM_EPS: f64 = 1e-6;

/// Multi-head latent attention.
#[derive(Clone, Debug)]
pub struct Mla {
    heads: usize,
    nope: usize,
    rope: usize,
    value: usize,
    latent: usize,
    interleave: bool,
    scale: f64,
    query: Query,
    kv_a_proj_with_mqa: Linear,
    kv_a_layernorm: RmsNorm,
    kv_b_proj: Linear,
    o_proj: Linear,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one a layer: a box would save nothing")]
enum Query {
    Full { q_proj: Linear },
    LowRank { q_a_proj: Linear, q_a_layernorm: RmsNorm, q_b_proj: Linear },
}

impl Mla {
    /// A fresh layer.
    pub fn new(init: &mut Init, config: &Config) -> Self {
        let (hidden, heads, bias) = (config.hidden_size, config.num_attention_heads, config.attention_bias);
        let (nope, rope, value, latent) =
            (config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim, config.kv_lora_rank);
        let queries = heads * config.qk_head_dim();
        Mla {
            heads,
            nope,
            rope,
            value,
            latent,
            interleave: config.rope_interleave,
            scale: config.softmax_scale(),
            query: match config.q_lora_rank {
                None => Query::Full { q_proj: Linear::new(init, hidden, queries, false) },
                Some(rank) => Query::LowRank {
                    q_a_proj: Linear::new(init, hidden, rank, bias),
                    q_a_layernorm: RmsNorm::new(init, rank, NORM_EPS),
                    q_b_proj: Linear::new(init, rank, queries, false),
                },
            },
            kv_a_proj_with_mqa: Linear::new(init, hidden, latent + rope, bias),
            kv_a_layernorm: RmsNorm::new(init, latent, NORM_EPS),
            kv_b_proj: Linear::new(init, latent, heads * (nope + value), false),
            o_proj: Linear::new(init, heads * value, hidden, bias),
        }
    }

    /// An empty cache for `batch` sequences, in the absorbed or the expanded form.
    pub fn cache(&self, batch: usize, absorbed: bool, dtype: DType, device: &Device) -> LayerCache {
        let rows = |heads, dim| Rows::new(batch, heads, dim, dtype, device);
        match absorbed {
            true => LayerCache::Absorbed(rows(1, self.latent + self.rope)),
            false => LayerCache::Expanded {
                keys: rows(self.heads, self.nope + self.rope).transposed(),
                values: rows(self.heads, self.value),
            },
        }
    }

    /// Causal attention over whole sequences, `x` `[batch, seq, hidden_size]`; position `i` has the angles `angles[i]`.
    ///
    /// # Panics
    /// If shapes do not fit.
    #[track_caller]
    pub fn forward(&self, x: &Var, angles: &Angles) -> Var {
        let (latent, k_rot) = self.compress(x, angles);
        let q = Var::cat(&self.queries(x, angles), -1);
        let (k, v) = self.expand(&latent, &k_rot);
        self.output(&Var::attention_causal(&q, &k, &v, None, self.scale))
    }

    /// The next `seq` tokens of each sequence, `x` `[batch, seq, hidden_size]`: they are written into the cache from position
    /// `starts[b]` on, and attend to all before and among them. In the expanded form each row's bits are those of
    /// [`Mla::forward`]. Not differentiable.
    ///
    /// # Panics
    /// If shapes do not fit.
    #[track_caller]
    pub fn forward_cached(&self, x: &Var, angles: &Angles, cache: &mut LayerCache, starts: &[usize]) -> Var {
        let (latent, k_rot) = self.compress(x, angles);
        let visible: Vec<usize> = starts.iter().map(|s| s + x.dim(1)).collect();
        let attend =
            |q: &Tensor, k: &Tensor, v: &Tensor| Var::from(Tensor::attention_causal(q, k, v, Some(&visible), self.scale).0);
        let [q_nope, q_rot] = self.queries(x, angles);
        let out = match cache {
            LayerCache::Expanded { keys, values } => {
                let (k, v) = self.expand(&latent, &k_rot);
                keys.write(starts, &k.value());
                values.write(starts, &v.value());
                attend(&Var::cat(&[q_nope, q_rot], -1).value(), keys.tensor(), values.tensor())
            }
            LayerCache::Absorbed(rows) => {
                rows.write(starts, &Var::cat(&[latent.unsqueeze(1), k_rot], -1).value());
                let (up_k, up_v) = self.up_projections();
                let q = Var::cat(&[q_nope.matmul(&up_k), q_rot], -1);
                let k = rows.tensor().expand(&[-1, self.heads as isize, -1, -1]);
                attend(&q.value(), &k, &k.narrow(-1, 0, self.latent)).matmul(&up_v.transpose(-1, -2))
            }
        };
        self.output(&out)
    }

    /// Normed latent `[batch, seq, kv_lora_rank]` and turned rotary part `[batch, 1, seq, qk_rope_head_dim]`.
    fn compress(&self, x: &Var, angles: &Angles) -> (Var, Var) {
        let both = self.kv_a_proj_with_mqa.forward(x);
        let [latent, k_rot] = two(both.split_with_sizes(&[self.latent, self.rope], -1));
        (self.kv_a_layernorm.forward(&latent), self.rotate(&k_rot.unsqueeze(1), angles))
    }

    /// The queries' parts without and with position, `[batch, heads, seq, …]`.
    fn queries(&self, x: &Var, angles: &Angles) -> [Var; 2] {
        let q = match &self.query {
            Query::Full { q_proj } => q_proj.forward(x),
            Query::LowRank { q_a_proj, q_a_layernorm, q_b_proj } => {
                q_b_proj.forward(&q_a_layernorm.forward(&q_a_proj.forward(x)))
            }
        };
        let q = self.split_heads(&q, self.nope + self.rope);
        let [q_nope, q_rot] = two(q.split_with_sizes(&[self.nope, self.rope], -1));
        [q_nope, self.rotate(&q_rot, angles)]
    }

    /// Keys and values of all heads, `[batch, heads, seq, …]`.
    fn expand(&self, latent: &Var, k_rot: &Var) -> (Var, Var) {
        let both = self.split_heads(&self.kv_b_proj.forward(latent), self.nope + self.value);
        let k_rot = k_rot.expand(&[-1, self.heads as isize, -1, -1]);
        let [k_nope, v] = two(both.split_with_sizes(&[self.nope, self.value], -1));
        (Var::cat(&[k_nope, k_rot], -1), v)
    }

    /// The parts of `kv_b_proj` that make keys `[heads, nope, latent]` and values `[heads, v, latent]`.
    fn up_projections(&self) -> (Var, Var) {
        let weight =
            self.kv_b_proj.weight.reshape(&[self.heads as isize, (self.nope + self.value) as isize, self.latent as isize]);
        (weight.narrow(1, 0, self.nope), weight.narrow(1, self.nope as isize, self.value))
    }

    /// `[batch, seq, heads·dim]` to `[batch, heads, seq, dim]`.
    fn split_heads(&self, x: &Var, dim: usize) -> Var {
        let [batch, seq] = [0, 1].map(|d| x.dim(d) as isize);
        x.reshape(&[batch, seq, self.heads as isize, dim as isize]).transpose(1, 2)
    }

    /// Turns queries or keys. Pairs that lie half a head apart are first brought side by side; that both queries and keys stay
    /// so changes no score.
    fn rotate(&self, x: &Var, angles: &Angles) -> Var {
        let x = match self.interleave {
            true => x.clone(),
            false => {
                let lead = x.shape()[..3].iter().map(|&n| n as isize).collect::<Vec<_>>();
                let pairs = x.reshape(&[&lead[..], &[2, self.rope as isize / 2]].concat()).transpose(-1, -2);
                pairs.reshape(&[&lead[..], &[self.rope as isize]].concat())
            }
        };
        x.rope(&angles.cos, &angles.sin)
    }

    fn output(&self, heads: &Var) -> Var {
        let [batch, seq] = [0, 2].map(|d| heads.dim(d) as isize);
        self.o_proj.forward(&heads.transpose(1, 2).reshape(&[batch, seq, (self.heads * self.value) as isize]))
    }
}

/// The parts of a split in two.
fn two(parts: Vec<Var>) -> [Var; 2] {
    parts.try_into().expect("split in two")
}

impl Module for Mla {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        match &self.query {
            Query::Full { q_proj } => path.module("q_proj", q_proj, f),
            Query::LowRank { q_a_proj, q_a_layernorm, q_b_proj } => {
                path.module("q_a_proj", q_a_proj, f);
                path.module("q_a_layernorm", q_a_layernorm, f);
                path.module("q_b_proj", q_b_proj, f);
            }
        }
        path.module("kv_a_proj_with_mqa", &self.kv_a_proj_with_mqa, f);
        path.module("kv_a_layernorm", &self.kv_a_layernorm, f);
        path.module("kv_b_proj", &self.kv_b_proj, f);
        path.module("o_proj", &self.o_proj, f);
    }
}
