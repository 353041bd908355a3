//! Rotary angles against the formulas.

use crate::common::{cpu, max_abs, tiny, values};
use nn::{Config, Init, Mla, Module, Rope, RopeScaling, Yarn};
use tensor::{DType, Generator, Tensor};

/// R1's settings.
fn r1(dim: usize) -> Config {
    let yarn = Yarn {
        factor: 40.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        mscale: Some(1.0),
        mscale_all_dim: Some(1.0),
        original_max_position_embeddings: 4096,
        attention_factor: None,
        truncate: true,
    };
    Config { qk_nope_head_dim: 128, qk_rope_head_dim: dim, rope_scaling: Some(RopeScaling::Yarn(yarn)), ..Config::default() }
}

#[test]
fn yarn_of_r1() {
    // A pair that turns b times over 4096 positions has the index 64·ln(4096/(2πb))/(2·ln 10000): 10.47 for 32 turns, 22.51
    // for one. Pairs up to 10 keep their angle, those from 23 on are divided by 40.
    let turns = r1(64).inv_freq();
    assert_eq!(turns.len(), 32);
    for (i, &w) in turns.iter().enumerate() {
        let own = (10_000f64).powf(-(i as f64) / 32.0);
        let share = ((i as f64 - 10.0) / 13.0).clamp(0.0, 1.0);
        let want = own * (1.0 - share) + own / 40.0 * share;
        assert!((w / want - 1.0).abs() < 1e-14, "{i}: {w} {want}");
    }
    let m = 0.1 * 40f64.ln() + 1.0;
    assert!((r1(64).softmax_scale() - m * m / 192f64.sqrt()).abs() < 1e-15);
    let Some(RopeScaling::Yarn(yarn)) = r1(64).rope_scaling else { unreachable!() };
    assert_eq!(yarn.cos_sin_factor(), 1.0);
    let lite = Yarn { mscale: Some(0.707), mscale_all_dim: Some(0.707), ..yarn.clone() };
    assert_eq!(lite.cos_sin_factor(), 1.0);
    let only_scores = Yarn { mscale: None, mscale_all_dim: None, ..yarn.clone() };
    assert!((only_scores.cos_sin_factor() - m).abs() < 1e-15);
    let both = Yarn { mscale: Some(0.5), ..yarn.clone() };
    assert!((both.cos_sin_factor() - (0.05 * 40f64.ln() + 1.0) / m).abs() < 1e-15);
    assert_eq!(Yarn { attention_factor: Some(0.9), ..yarn }.cos_sin_factor(), 0.9);
}

#[test]
fn tables_hold_cos_and_sin_of_position_times_turn() {
    let rope = Rope::new(&r1(8), DType::F64, &cpu());
    let turns = r1(8).inv_freq();
    let angles = rope.at(&[0, 70, 3], 2);
    assert_eq!(angles.cos.dims(), [3, 1, 2, 4]);
    let (cos, sin) = (angles.cos.to_vec::<f64>(), angles.sin.to_vec::<f64>());
    for (row, position) in [0, 1, 70, 71, 3, 4].into_iter().enumerate() {
        for (i, w) in turns.iter().enumerate() {
            let angle = f64::from(position) * w;
            assert!((cos[row * 4 + i] - angle.cos()).abs() < 1e-14 && (sin[row * 4 + i] - angle.sin()).abs() < 1e-14);
        }
    }
    assert_eq!(rope.first(72).cos.narrow(0, 70, 2).to_vec::<f64>(), cos[8..16]);
}

#[test]
fn linear_scaling_divides_and_plain_does_not() {
    let plain = Config { rope_theta: 100.0, qk_nope_head_dim: 12, qk_rope_head_dim: 4, ..Config::default() };
    let linear = Config { rope_scaling: Some(RopeScaling::Linear { factor: 4.0 }), ..plain.clone() };
    assert!((plain.inv_freq()[1] - 0.1).abs() < 1e-16);
    assert!((linear.inv_freq()[1] - 0.025).abs() < 1e-16);
    assert!((plain.softmax_scale() - 0.25).abs() < 1e-16 && (linear.softmax_scale() - 0.25).abs() < 1e-16);
}

/// Scores depend on distances alone: the same tokens further on attend alike.
#[test]
fn attention_sees_relative_positions() {
    let config = tiny();
    let mut rng = Generator::new(1);
    let mla = Mla::new(&mut Init::normal(&mut rng, 0.5, DType::F64, &cpu()), &config);
    let rope = Rope::new(&config, DType::F64, &cpu());
    let x = rng.normal([1, 6, 8], 0.0, 1.0, DType::F64, &cpu()).into();
    let near = mla.forward(&x, &rope.at(&[0], 6)).value();
    let far = mla.forward(&x, &rope.at(&[37], 6)).value();
    // Angles up to 42 are exact to 42 units of roundoff, and are the only difference.
    assert!(max_abs(&near, &far) < 1e-12);
    let stretched = Config { rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }), ..config };
    let stretched = Rope::new(&stretched, DType::F64, &cpu());
    assert!(max_abs(&near, &mla.forward(&x, &stretched.first(6)).value()) > 1e-3, "positions must matter");
}

/// Pairs half a head apart, with weights rearranged to match, compute the same.
#[test]
fn half_apart_pairs_are_adjacent_pairs_rearranged() {
    let adjacent = Config { q_lora_rank: None, ..tiny() };
    let apart = Config { rope_interleave: false, ..adjacent.clone() };
    let mut rng = Generator::new(2);
    let mla = |config: &Config, rng: &mut Generator| Mla::new(&mut Init::normal(rng, 0.5, DType::F64, &cpu()), config);
    let (a, b) = (mla(&adjacent, &mut rng), mla(&apart, &mut rng));
    let (nope, rope, latent) = (adjacent.qk_nope_head_dim, adjacent.qk_rope_head_dim, adjacent.kv_lora_rank);
    // Row `start + i` of the rotary part moves to where its pair lies apart: even rows first, then odd ones.
    let rearranged = |t: &Tensor, start: usize| {
        let order = (0..start).chain((0..rope).map(|i| start + (2 * i) % rope + (2 * i) / rope));
        let order: Vec<i64> = order.map(|i| i as i64).collect();
        t.index_select(0, &Tensor::from_slice(&order, order.len(), &cpu()))
    };
    let (from, to) = (a.named_parameters(), b.named_parameters());
    for ((name, from), (_, to)) in from.iter().zip(&to) {
        to.set_value(match name.as_str() {
            "q_proj.weight" => {
                Tensor::cat(&from.value().split(nope + rope, 0).iter().map(|h| rearranged(h, nope)).collect::<Vec<_>>(), 0)
            }
            "kv_a_proj_with_mqa.weight" => rearranged(&from.value(), latent),
            _ => from.value(),
        });
    }
    assert_ne!(values(&a, "q_proj.weight"), values(&b, "q_proj.weight"));
    let x = rng.normal([2, 5, 8], 0.0, 1.0, DType::F64, &cpu()).into();
    let angles = Rope::new(&adjacent, DType::F64, &cpu()).first(5);
    // Only the order of the sum over a head differs.
    assert!(max_abs(&a.forward(&x, &angles).value(), &b.forward(&x, &angles).value()) < 1e-13);
}
