//! Rotary position embedding (Su et al., "RoFormer", 2021) and its YaRN extension (Peng et al., 2023), as DeepSeek uses them.

use crate::config::{Config, ConfigError};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;
use std::sync::{Mutex, PoisonError};
use tensor::{DType, Device, Tensor};

/// How a context longer than the one trained on is fitted in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// All angles divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Slow pairs are divided by the factor, fast ones are not.
    Yarn(Yarn),
}

/// The numbers of YaRN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Yarn {
    /// How many times longer the context becomes.
    pub factor: f64,
    /// Pairs that turn more often than this over the original context keep their angles.
    #[serde(default = "beta_fast")]
    pub beta_fast: f64,
    /// Pairs that turn less often than this are divided by the factor.
    #[serde(default = "beta_slow")]
    pub beta_slow: f64,
    /// Magnitude of cos and sin, with `mscale_all_dim`: `m(mscale)/m(mscale_all_dim)`, `m(s) = 0.1·s·ln factor + 1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mscale: Option<f64>,
    /// The softmax scale is multiplied by `m(mscale_all_dim)²`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mscale_all_dim: Option<f64>,
    /// The context trained on.
    pub original_max_position_embeddings: usize,
    /// Magnitude of cos and sin, instead of what `mscale` gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// Whether the bounds between fast and slow are rounded to whole pairs.
    #[serde(default = "truncate")]
    pub truncate: bool,
}

fn beta_fast() -> f64 {
    32.0
}

fn beta_slow() -> f64 {
    1.0
}

fn truncate() -> bool {
    true
}

/// `0.1·mscale·ln factor + 1`.
fn magnitude(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

impl Yarn {
    /// What cos and sin are multiplied by. Without both `mscale` and `mscale_all_dim` (zero counts as absent) it is `m(1)`, as in
    /// transformers.
    pub fn cos_sin_factor(&self) -> f64 {
        let given = |m: Option<f64>| m.filter(|&m| m != 0.0);
        self.attention_factor.unwrap_or_else(|| match (given(self.mscale), given(self.mscale_all_dim)) {
            (Some(m), Some(all)) => magnitude(self.factor, m) / magnitude(self.factor, all),
            _ => magnitude(self.factor, 1.0),
        })
    }

    /// The share of its own angle, from 1 (fast) to 0 (slow), that pair `i` of `dim/2` keeps.
    fn kept(&self, i: usize, dim: usize, theta: f64) -> f64 {
        let pair =
            |turns: f64| dim as f64 * (self.original_max_position_embeddings as f64 / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (pair(self.beta_fast), pair(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
        if low == high {
            high += 0.001; // no division by zero where both bounds fall on one pair
        }
        1.0 - ((i as f64 - low) / (high - low)).clamp(0.0, 1.0)
    }
}

impl Config {
    /// The turn of each rotary pair per position, `qk_rope_head_dim/2` of them.
    pub fn inv_freq(&self) -> Vec<f64> {
        let (dim, theta) = (self.qk_rope_head_dim, self.rope_theta);
        let own = |i: usize| theta.powf(-2.0 * i as f64 / dim as f64);
        (0..dim / 2)
            .map(|i| match &self.rope_scaling {
                None => own(i),
                Some(RopeScaling::Linear { factor }) => own(i) / factor,
                Some(RopeScaling::Yarn(yarn)) => {
                    let kept = yarn.kept(i, dim, theta);
                    own(i) * kept + own(i) / yarn.factor * (1.0 - kept)
                }
            })
            .collect()
    }

    /// What attention scores are multiplied by: `qk_head_dim^(−½)`, with YaRN times `m(mscale_all_dim)²`.
    pub fn softmax_scale(&self) -> f64 {
        let m = match &self.rope_scaling {
            Some(RopeScaling::Yarn(Yarn { factor, mscale_all_dim: Some(m), .. })) if *m != 0.0 => magnitude(*factor, *m),
            _ => 1.0,
        };
        m * m / (self.qk_head_dim() as f64).sqrt()
    }

    pub(crate) fn validate_rope(&self) -> Result<(), ConfigError> {
        let check = |key: &str, found: f64, ok: bool, expected: &str| match ok && found.is_finite() {
            true => Ok(()),
            false => Err(ConfigError::Invalid { key: key.into(), found: found.to_string(), expected: expected.into() }),
        };
        check("rope_theta", self.rope_theta, self.rope_theta > 1.0, "a number above 1")?;
        match &self.rope_scaling {
            None => Ok(()),
            Some(RopeScaling::Linear { factor }) => check("rope_scaling.factor", *factor, *factor >= 1.0, "at least 1"),
            Some(RopeScaling::Yarn(y)) => {
                check("rope_scaling.factor", y.factor, y.factor >= 1.0, "at least 1")?;
                check("rope_scaling.beta_slow", y.beta_slow, y.beta_slow > 0.0, "a positive number")?;
                check("rope_scaling.beta_fast", y.beta_fast, y.beta_fast >= y.beta_slow, "at least beta_slow")?;
                let n = y.original_max_position_embeddings as f64;
                check("rope_scaling.original_max_position_embeddings", n, n > 0.0, "a positive integer")?;
                let a = y.attention_factor.unwrap_or(1.0);
                check("rope_scaling.attention_factor", a, a > 0.0, "a positive number")?;
                [("rope_scaling.mscale", y.mscale), ("rope_scaling.mscale_all_dim", y.mscale_all_dim)]
                    .iter()
                    .try_for_each(|&(key, m)| check(key, m.unwrap_or(0.0), m.unwrap_or(0.0) >= 0.0, "no negative number"))
            }
        }
    }
}

/// cos and sin of the angles at some positions.
#[derive(Clone, Debug)]
pub struct Angles {
    /// Broadcasts to `[batch, heads, seq, dim/2]`.
    pub cos: Tensor,
    /// Likewise.
    pub sin: Tensor,
}

/// Tables of angles that grow as longer sequences come.
#[derive(Debug)]
pub struct Rope {
    inv_freq: Vec<f64>,
    factor: f64,
    dtype: DType,
    device: Device,
    tables: Mutex<Angles>,
}

impl Rope {
    /// Tables for a model of this config.
    pub fn new(config: &Config, dtype: DType, device: &Device) -> Self {
        let factor = match &config.rope_scaling {
            Some(RopeScaling::Yarn(yarn)) => yarn.cos_sin_factor(),
            _ => 1.0,
        };
        let empty = Tensor::zeros([0, config.qk_rope_head_dim / 2], dtype, device);
        let tables = Mutex::new(Angles { cos: empty.clone(), sin: empty });
        Rope { inv_freq: config.inv_freq(), factor, dtype, device: device.clone(), tables }
    }

    /// The angles of positions `0..len`, `[len, dim/2]`.
    pub fn first(&self, len: usize) -> Angles {
        let locked = || self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = locked().clone();
        if known.cos.dims()[0] < len {
            let rows = len.next_power_of_two().max(64);
            let table = |f: fn(f64) -> f64| {
                let values: Vec<f64> =
                    (0..rows).flat_map(|p| self.inv_freq.iter().map(move |w| f(p as f64 * w) * self.factor)).collect();
                Tensor::from_vec(values, [rows, self.inv_freq.len()], &self.device).to_dtype(self.dtype)
            };
            // Not under the lock: a thread that waits for others in a conversion may begin work that comes here again.
            known = Angles { cos: table(f64::cos), sin: table(f64::sin) };
            let mut tables = locked();
            if tables.cos.dims()[0] < rows {
                *tables = known.clone();
            }
        }
        Angles { cos: known.cos.narrow(0, 0, len), sin: known.sin.narrow(0, 0, len) }
    }

    /// The angles of `len` positions from `starts[b]` on in each sequence, `[batch, 1, len, dim/2]`.
    pub fn at(&self, starts: &[usize], len: usize) -> Angles {
        let Angles { cos, sin } = self.first(starts.iter().max().map_or(0, |s| s + len));
        let positions: Vec<i64> = starts.iter().flat_map(|&s| (s..s + len).map(|p| p as i64)).collect();
        let positions = Tensor::from_vec(positions, starts.len() * len, &self.device);
        let rows = |t: &Tensor| {
            t.index_select(0, &positions).reshape(&[starts.len() as isize, 1, len as isize, self.inv_freq.len() as isize])
        };
        Angles { cos: rows(&cos), sin: rows(&sin) }
    }
}
