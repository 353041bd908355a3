//! Rotary position embedding (Su et al., "RoFormer", 2021) and its YaRN extension (Peng et al., 2023), as DeepSeek uses them.

use crate::keys::{ConfigError, Keys};
use serde_json::{Map, Value, json};
use std::f64::consts::TAU;
use std::sync::{Mutex, PoisonError};
use tensor::{DType, Device, Tensor};

/// Base and scaling of the rotary angles.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Pair `i` of `dim/2` turns by `theta^(−2i/dim)` a position.
    pub theta: f64,
    /// How a longer context is fitted in.
    pub scaling: RopeScaling,
}

/// How a context longer than the one trained on is fitted in.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All angles divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Slow pairs are divided by the factor, fast ones are not.
    Yarn(Yarn),
}

/// The numbers of YaRN.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// How many times longer the context becomes.
    pub factor: f64,
    /// Pairs that turn more often than this over the original context keep their angles.
    pub beta_fast: f64,
    /// Pairs that turn less often than this are divided by the factor.
    pub beta_slow: f64,
    /// Magnitude of cos and sin, with `mscale_all_dim`: `m(mscale)/m(mscale_all_dim)`, `m(s) = 0.1·s·ln factor + 1`.
    pub mscale: Option<f64>,
    /// The softmax scale is multiplied by `m(mscale_all_dim)²`.
    pub mscale_all_dim: Option<f64>,
    /// The context trained on.
    pub original_max_position_embeddings: usize,
    /// Magnitude of cos and sin, instead of what `mscale` gives.
    pub attention_factor: Option<f64>,
    /// Whether the bounds between fast and slow are rounded to whole pairs.
    pub truncate: bool,
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

impl RopeConfig {
    /// The turn of each pair a position, `dim/2` of them.
    pub fn inv_freq(&self, dim: usize) -> Vec<f64> {
        let own = |i: usize| self.theta.powf(-2.0 * i as f64 / dim as f64);
        (0..dim / 2)
            .map(|i| match &self.scaling {
                RopeScaling::None => own(i),
                RopeScaling::Linear { factor } => own(i) / factor,
                RopeScaling::Yarn(yarn) => {
                    let kept = yarn.kept(i, dim, self.theta);
                    own(i) * kept + own(i) / yarn.factor * (1.0 - kept)
                }
            })
            .collect()
    }

    /// What attention scores are multiplied by: `head_dim^(−½)`, with YaRN times `m(mscale_all_dim)²`.
    pub fn softmax_scale(&self, head_dim: usize) -> f64 {
        let m = match &self.scaling {
            RopeScaling::Yarn(Yarn { factor, mscale_all_dim: Some(m), .. }) if *m != 0.0 => magnitude(*factor, *m),
            _ => 1.0,
        };
        m * m / (head_dim as f64).sqrt()
    }

    pub(crate) fn from_json(
        at: &str,
        map: Map<String, Value>,
        theta: Option<f64>,
        max_positions: usize,
    ) -> Result<RopeConfig, ConfigError> {
        let keys = Keys(map);
        Self::read(&keys, theta, max_positions).map_err(|e| match e {
            ConfigError::Missing { key } => ConfigError::Missing { key: format!("{at}.{key}") },
            ConfigError::Invalid { key, found, expected } => ConfigError::Invalid { key: format!("{at}.{key}"), found, expected },
            other => other,
        })
    }

    fn read(keys: &Keys, theta: Option<f64>, max_positions: usize) -> Result<RopeConfig, ConfigError> {
        let kinds = [("default", 0), ("linear", 1), ("yarn", 2)];
        let kind = match (keys.0.get("rope_type"), keys.0.get("type")) {
            (Some(a), Some(b)) if a != b => return keys.invalid("type", format!("the same as rope_type, {a}")),
            (None, Some(_)) => keys.choice("type", None, &kinds)?,
            _ => keys.choice("rope_type", Some("default"), &kinds)?,
        };
        let allowed: &[&str] = match kind {
            0 => &[],
            1 => &["factor"],
            _ => &[
                "factor",
                "beta_fast",
                "beta_slow",
                "mscale",
                "mscale_all_dim",
                "original_max_position_embeddings",
                "attention_factor",
                "truncate",
            ],
        };
        let common = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
        if let Some((key, _)) =
            keys.0.iter().find(|(k, v)| !v.is_null() && !common.contains(&k.as_str()) && !allowed.contains(&k.as_str()))
        {
            return keys.invalid(key, format!("no such setting for rope type \"{}\"", kinds[kind].0));
        }
        if keys.number("partial_rotary_factor", Some(1.0))? != 1.0 {
            return keys.invalid("partial_rotary_factor", "1");
        }
        let inner = keys.optional_number("rope_theta")?;
        if let (Some(a), Some(b)) = (inner, theta)
            && a != b
        {
            return keys.invalid("rope_theta", format!("{b} as at the top level"));
        }
        let scaling = match kind {
            0 => RopeScaling::None,
            1 => RopeScaling::Linear { factor: keys.number("factor", None)? },
            _ => RopeScaling::Yarn(Yarn {
                factor: keys.number("factor", None)?,
                beta_fast: keys.number("beta_fast", Some(32.0))?,
                beta_slow: keys.number("beta_slow", Some(1.0))?,
                mscale: keys.optional_number("mscale")?,
                mscale_all_dim: keys.optional_number("mscale_all_dim")?,
                original_max_position_embeddings: keys
                    .optional_size("original_max_position_embeddings")?
                    .unwrap_or(max_positions),
                attention_factor: keys.optional_number("attention_factor")?,
                truncate: keys.flag("truncate", true)?,
            }),
        };
        Ok(RopeConfig { theta: inner.or(theta).unwrap_or(10_000.0), scaling })
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let check = |key: &str, found: f64, ok: bool, expected: &str| match ok {
            true => Ok(()),
            false => Err(ConfigError::Invalid { key: key.into(), found: found.to_string(), expected: expected.into() }),
        };
        check("rope_theta", self.theta, self.theta.is_finite() && self.theta > 1.0, "a number above 1")?;
        match &self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => check("rope_scaling.factor", *factor, *factor >= 1.0, "at least 1"),
            RopeScaling::Yarn(y) => {
                check("rope_scaling.factor", y.factor, y.factor >= 1.0, "at least 1")?;
                check("rope_scaling.beta_slow", y.beta_slow, y.beta_slow > 0.0, "a positive number")?;
                check("rope_scaling.beta_fast", y.beta_fast, y.beta_fast >= y.beta_slow, "at least beta_slow")?;
                let n = y.original_max_position_embeddings as f64;
                check("rope_scaling.original_max_position_embeddings", n, n > 0.0, "a positive integer")?;
                let a = y.attention_factor.unwrap_or(1.0);
                check("rope_scaling.attention_factor", a, a > 0.0, "a positive number")?;
                let m = y.mscale.unwrap_or(0.0).min(y.mscale_all_dim.unwrap_or(0.0));
                check("rope_scaling.mscale", m, m >= 0.0, "no negative mscale or mscale_all_dim")
            }
        }
    }

    /// `rope_theta` and `rope_scaling`.
    pub(crate) fn to_json(&self) -> (f64, Value) {
        let scaling = match &self.scaling {
            RopeScaling::None => Value::Null,
            RopeScaling::Linear { factor } => json!({"type": "linear", "rope_type": "linear", "factor": factor}),
            RopeScaling::Yarn(y) => {
                let mut map = json!({
                    "type": "yarn", "rope_type": "yarn", "factor": y.factor, "beta_fast": y.beta_fast, "beta_slow": y.beta_slow,
                    "mscale": y.mscale, "mscale_all_dim": y.mscale_all_dim, "attention_factor": y.attention_factor,
                    "original_max_position_embeddings": y.original_max_position_embeddings, "truncate": y.truncate,
                });
                map.as_object_mut().expect("an object was written above").retain(|_, v| !v.is_null());
                map
            }
        };
        (self.theta, scaling)
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
    /// Tables for heads whose rotary part has `dim` values.
    pub fn new(config: &RopeConfig, dim: usize, dtype: DType, device: &Device) -> Self {
        let factor = match &config.scaling {
            RopeScaling::Yarn(yarn) => yarn.cos_sin_factor(),
            _ => 1.0,
        };
        let empty = Tensor::zeros([0, dim / 2], dtype, device);
        let tables = Mutex::new(Angles { cos: empty.clone(), sin: empty });
        Rope { inv_freq: config.inv_freq(dim), factor, dtype, device: device.clone(), tables }
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
