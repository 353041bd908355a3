//! Small models and checks that several tests share.

use autograd::Var;
use nn::{Config, DeepseekV3ForCausalLM, Module, Slot};
use std::path::PathBuf;
use tensor::{DType, Device, Generator, Tensor};

pub fn cpu() -> Device {
    Device::cpu()
}

/// A model of every part in a few hundred parameters a layer.
pub fn tiny() -> Config {
    Config {
        vocab_size: 13,
        hidden_size: 8,
        intermediate_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        q_lora_rank: Some(6),
        kv_lora_rank: 5,
        qk_nope_head_dim: 3,
        qk_rope_head_dim: 4,
        v_head_dim: 3,
        first_k_dense_replace: 1,
        n_routed_experts: 6,
        n_shared_experts: 1,
        num_experts_per_tok: 2,
        moe_intermediate_size: 4,
        n_group: 3,
        topk_group: 2,
        initializer_range: 0.5,
        max_position_embeddings: 64,
        ..Config::default()
    }
}

/// The flagship's proportions.
pub fn small() -> Config {
    Config {
        vocab_size: 30,
        hidden_size: 64,
        intermediate_size: 96,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        q_lora_rank: None,
        kv_lora_rank: 24,
        qk_nope_head_dim: 16,
        qk_rope_head_dim: 8,
        v_head_dim: 20,
        first_k_dense_replace: 1,
        n_routed_experts: 8,
        n_shared_experts: 1,
        num_experts_per_tok: 2,
        moe_intermediate_size: 40,
        n_group: 1,
        topk_group: 1,
        initializer_range: 0.1,
        max_position_embeddings: 256,
        ..Config::default()
    }
}

/// A model with random weights, correction biases too.
pub fn model(config: Config, seed: u64, dtype: DType) -> DeepseekV3ForCausalLM {
    let mut rng = Generator::new(seed);
    let model = DeepseekV3ForCausalLM::new(config, &mut rng, dtype, &cpu()).unwrap();
    randomise_buffers(&model, &mut rng);
    model
}

pub fn randomise_buffers(module: &dyn Module, rng: &mut Generator) {
    for named in module.walk() {
        if let Slot::Buffer(buffer) = named.slot {
            let old = buffer.value();
            buffer.set_value(rng.normal(old.shape().clone(), 0.0, 0.1, old.dtype(), &cpu()));
        }
    }
}

pub fn ids(seed: u64, shape: [usize; 2], vocab_size: usize) -> Tensor {
    Generator::new(seed).randint(0, vocab_size as i64, shape, &cpu())
}

/// The values of the parameter whose name ends like this.
pub fn values(module: &dyn Module, name: &str) -> Vec<f64> {
    let all = module.state_dict();
    let found = all.iter().find(|(n, _)| n == name || n.ends_with(&format!(".{name}")));
    found.unwrap_or_else(|| panic!("no {name}")).1.to_f64_vec()
}

/// The same values in a layout that `seed` draws: contiguous, transposed, sliced with a step, or at an offset.
pub fn relayout(t: &Tensor, seed: u64) -> Tensor {
    if t.rank() == 0 || t.numel() == 0 {
        return t.clone();
    }
    let out = match seed % 4 {
        0 => t.clone(),
        1 => t.transpose(0, -1).contiguous().transpose(0, -1),
        2 => Tensor::stack(&[t.clone(), t.neg()], -1).select(-1, 0),
        _ => Tensor::cat(&[t.neg(), t.clone()], 0).narrow(0, t.dims()[0] as isize, t.dims()[0]),
    };
    assert_eq!(out.to_f64_vec(), t.to_f64_vec());
    out
}

pub fn max_abs(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.to_f64_vec()
        .iter()
        .zip(b.to_f64_vec())
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

pub fn bits(t: &Tensor) -> Vec<u32> {
    t.to_vec::<f32>().into_iter().map(f32::to_bits).collect()
}

pub fn grad(var: &Var) -> Tensor {
    var.grad().expect("a gradient")
}

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// A folder that is removed with the value.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("scratchwork-nn-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
