//! The two forms of multi-head latent attention.

use crate::common::{bits, cpu, max_abs, small, tiny};
use autograd::{Var, no_grad};
use nn::{Config, Init, Mla, Module, Rope};
use tensor::{DType, Generator, Tensor};

struct Setup {
    mla: Mla,
    rope: Rope,
    x: Var,
    config: Config,
}

fn setup(config: Config, seed: u64, dtype: DType, seq: usize) -> Setup {
    let mut rng = Generator::new(seed);
    let mla = Mla::new(&mut Init::normal(&mut rng, 0.1, dtype, &cpu()), &config);
    let rope = Rope::new(&config, dtype, &cpu());
    let x = rng.normal([2, seq, config.hidden_size], 0.0, 1.0, dtype, &cpu()).into();
    Setup { mla, rope, x, config }
}

impl Setup {
    /// The whole sequence through a cache, in pieces of these lengths.
    fn cached(&self, absorbed: bool, pieces: &[usize]) -> Tensor {
        let mut cache = self.mla.cache(2, absorbed, self.x.dtype(), &cpu());
        let (mut at, mut out) = (0, Vec::new());
        for &len in pieces {
            let x = self.x.narrow(1, at as isize, len);
            let y = no_grad(|| self.mla.forward_cached(&x, &self.rope.at(&[at; 2], len), &mut cache, &[at; 2]));
            out.push(y.value());
            at += len;
        }
        Tensor::cat(&out, 1)
    }

    /// A bound on the difference of the two forms, from the sizes of what they sum.
    ///
    /// Both compute queries and latents by the same instructions. A score is a sum of `nope·latent + rope` products, in either
    /// order of summation: each form errs by at most `n·u·S`, `S` the sum of the products' sizes and `n` the longest chain of
    /// roundings. Softmax turns a change `δ` of scores into a factor `e^(2δ)`; the sums over keys, latent and heads add their
    /// own chains. All sizes are bounded by their largest over the sequence.
    fn bound(&self) -> f64 {
        let c = &self.config;
        let (nope, rope, value, latent, heads) =
            (c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim, c.kv_lora_rank, c.num_attention_heads);
        let named = self.mla.state_dict();
        let get = |name: &str| &named.iter().find(|(n, _)| n == name).unwrap().1;
        let rows = |x: &Tensor, w: &Tensor| x.matmul(&w.t());
        let x = self.x.value();
        let rms = |x: &Tensor| x.rms_norm(&[x.dim(-1)], None, Some(1e-6));
        let q = match c.q_lora_rank {
            None => rows(&x, get("q_proj.weight")),
            Some(_) => rows(&rms(&rows(&x, get("q_a_proj.weight"))), get("q_b_proj.weight")),
        };
        let kv = rows(&x, get("kv_a_proj_with_mqa.weight"));
        let (lat, rot) = (rms(&kv.narrow(-1, 0, latent)).abs(), kv.narrow(-1, latent as isize, rope).abs());
        let largest = |t: &Tensor| t.to_f64_vec().into_iter().fold(0.0, f64::max);
        let q = q.abs().reshape(&[2, -1, heads as isize, (nope + rope) as isize]);
        let up = get("kv_b_proj.weight").abs().reshape(&[heads as isize, (nope + value) as isize, latent as isize]);
        // Rotation mixes two values: sizes grow by √2 on each side at most.
        let rotary = 2.0 * largest(&q.narrow(-1, nope as isize, rope).sum(-1, false)) * largest(&rot);
        let keys = largest(&lat.matmul(&up.narrow(1, 0, nope).flatten(0, 1).t()));
        let values = largest(&lat.matmul(&up.narrow(1, nope as isize, value).flatten(0, 1).t()));
        let plain = largest(&q.narrow(-1, 0, nope).sum(-1, false)) * keys;
        let score = c.softmax_scale() * (plain + rotary);
        let u = x.dtype().epsilon() / 2.0;
        let seq = x.dims()[1];
        let delta = 2.0 * (nope + latent + rope + 3) as f64 * u * score;
        let out = largest(&get("o_proj.weight").abs().sum(-1, false)) * values;
        // Softmax itself: an exponential good to 2u and a sum over keys; then keys, latent, heads.
        (2.0 * delta).exp_m1() * out + 2.0 * (3 * seq + latent + value * heads + 8) as f64 * u * out
    }
}

#[test]
fn absorbed_equals_expanded() {
    for (config, dtype) in [
        (tiny(), DType::F64),
        (Config { q_lora_rank: None, ..tiny() }, DType::F64),
        (small(), DType::F64),
        (small(), DType::F32),
        (Config { q_lora_rank: Some(16), ..small() }, DType::F32),
    ] {
        let s = setup(config, 3, dtype, 9);
        let (want, bound) = (s.mla.forward(&s.x, &s.rope.first(9)).value(), s.bound());
        let size = max_abs(&want, &want.zeros_like());
        assert!(bound < 0.01 * size, "{dtype}: a bound of {bound} on values of {size} checks little");
        for pieces in [&[9][..], &[4, 1, 1, 3], &[1; 9]] {
            let difference = max_abs(&s.cached(true, pieces), &want);
            assert!(difference <= bound, "{dtype}: {difference} > {bound}");
        }
    }
}

/// The bound would notice an error in the smallest part: the rotary term of one key.
#[test]
fn the_bound_notices_an_error() {
    let s = setup(small(), 3, DType::F32, 9);
    let right = s.mla.forward(&s.x, &s.rope.first(9)).value();
    let late = s.mla.forward(&s.x, &s.rope.at(&[0, 1], 9)).value(); // angles are relative: no change
    assert!(max_abs(&right, &late) <= 4.0 * s.bound());
    let mut cache = s.mla.cache(2, true, DType::F32, &cpu());
    no_grad(|| s.mla.forward_cached(&s.x.narrow(1, 0, 8), &s.rope.at(&[0; 2], 8), &mut cache, &[0; 2]));
    let wrong = no_grad(|| s.mla.forward_cached(&s.x.narrow(1, 8, 1), &s.rope.at(&[9; 2], 1), &mut cache, &[8; 2])).value();
    assert!(max_abs(&right.narrow(1, 8, 1), &wrong) > s.bound());
}

#[test]
fn the_expanded_cache_gives_the_bits_of_the_whole_pass() {
    for seed in 0..3 {
        let s = setup(small(), seed, DType::F32, 70); // the cache's capacity grows on the way
        let want = bits(&s.mla.forward(&s.x, &s.rope.first(70)).value());
        for pieces in [&[70][..], &[1; 70], &[13, 1, 1, 40, 15]] {
            assert!(bits(&s.cached(false, pieces)) == want, "pieces {pieces:?}");
        }
    }
}

#[test]
fn the_absorbed_cache_is_smaller() {
    let config = small();
    let model = crate::common::model(config.clone(), 1, DType::F32);
    let sizes = [false, true].map(|absorbed| {
        let mut cache = model.cache(2, absorbed);
        no_grad(|| model.forward_cached(&crate::common::ids(1, [2, 5], 30), &mut cache, &[0, 0]));
        cache.bytes()
    });
    let (expanded, absorbed) = (4 * (24 + 20), 24 + 8);
    assert_eq!(sizes[0] * absorbed, sizes[1] * expanded);
}
