use super::*;

fn over(text: &str) -> Result<RunConfig, RunConfigError> {
    RunConfig::default().overlay_str(text, Path::new("my.toml"))
}

#[test]
fn every_key_survives_the_round_trip() {
    let mut config = RunConfig::quick();
    config.seed = 17;
    config.model.q_lora_rank = Some(32);
    config.model.rope_scaling = Some(nn::RopeScaling::Linear { factor: 2.0 });
    config.rl.epsilon_high = Some(0.28);
    config.rl.loss_type = LossType::DrGrpo;
    config.rl.scale_rewards = ScaleRewards::None;
    config.stages.push(StageConfig { from: Some("base".into()), ..StageConfig::new(Kind::Grpo, "again") });
    config.stages[2].over = toml::from_str("steps = 3\nmax_completion_length = [{from_step = 0, limit = 9}]").unwrap();
    for config in [config, RunConfig::default()] {
        let text = config.to_toml();
        for key in ["q_lora_rank", "epsilon_high", "max_completion_length", "seq_aux_alpha", "ref_sync_steps", "shown"] {
            assert!(text.contains(key), "{key} is not in\n{text}");
        }
        assert_eq!(over(&text).unwrap(), config);
    }
}

#[test]
fn a_file_is_laid_over_what_is_there() {
    let base = RunConfig::quick();
    let got = base.overlay_str("[rl]\nlr = 1e-4\n[rl.reward_weights]\nformat = 0.5", Path::new("my.toml")).unwrap();
    let mut expected = base;
    expected.rl.lr = 1e-4;
    expected.rl.reward_weights.format = 0.5;
    assert_eq!(got, expected);
}

#[test]
fn a_file_of_another_format_is_refused_as_such() {
    assert!(RunConfig::default().to_toml().starts_with("format = 2\n"));
    for newer in ["format = 3\ntemperament = 1", "temperament = 1\nformat = 3"] {
        let said = over(newer).unwrap_err().to_string();
        assert!(said.contains("my.toml") && said.contains("it has the format 3, this program reads format 2"), "{said}");
    }
}

#[test]
fn unknown_keys_and_bad_values_are_named() {
    for (text, said) in [
        ("[rl]\nlearning_rate = 1e-4", ["my.toml", "line 2", "`learning_rate`", "`num_generations`"]),
        ("sed = 1", ["my.toml", "line 1", "`sed`", "`seed`"]),
        ("[rl]\nmax_completion_length = [{from_step = 0, limt = 3}]", ["my.toml", "line 2", "`limt`", "`limit`"]),
        ("[rl]\nepsilon_high = \"off\"", ["my.toml", "line 2", "\"off\"", "\"none\""]),
        ("[rl]\nloss_type = \"ppo\"", ["my.toml", "line 2", "`ppo`", "`dapo`"]),
        ("[model]\nhidden_size = -3", ["my.toml", "line 2", "-3", "hidden_size"]),
        ("[rl]\nepsilon = -0.2", ["rl.epsilon", "-0.2", "out of range", "more than 0"]),
        ("[base]\np_check = 1.5", ["base.p_check", "1.5", "out of range", "0 to 1"]),
        ("[base]\nlr = nan", ["base.lr", "NaN", "out of range", "more than 0"]),
        ("[model]\nhidden_sise = 3", ["my.toml", "line 2", "`hidden_sise`", "`hidden_size`"]),
        ("[model]\nscoring_func = \"tanh\"", ["my.toml", "line 2", "`tanh`", "`sigmoid`"]),
        ("[model]\nq_lora_rank = \"no\"", ["my.toml", "line 2", "\"no\"", "\"none\""]),
        ("[model]\nnum_hidden_layers = 1000000", ["model.num_hidden_layers", "1000000", "out of range", "1 to 512"]),
        ("[model]\nn_routed_experts = 1000000", ["model.n_routed_experts", "1000000", "out of range", "1 to 2048"]),
        ("[model]\nvocab_size = 28", ["model.vocab_size", "28", "out of range", "29"]),
        ("[model]\nnum_nextn_predict_layers = 1", ["model.num_nextn_predict_layers", "1", "out of range", "0"]),
        ("[model]\nrope_scaling = {rope_type = \"yarn\"}", ["my.toml", "line 2", "missing field", "`factor`"]),
        ("[model]\nqk_rope_head_dim = 7", ["model.qk_rope_head_dim", "7", "out of range", "even"]),
        ("[model]\nn_group = 3", ["model.n_group", "3", "out of range", "divisor of n_routed_experts"]),
        ("[eval]\nsamples = 8", ["eval.k", "16", "out of range", "eval.samples"]),
        ("[rl]\nsteps = 9000000000000000000", ["rl.steps", "9000000000000000000", "out of range", "0 to 16777216"]),
        (
            "[rl]\nquestions = 4294967296\nnum_generations = 4294967296",
            ["rl.questions", "4294967296", "out of range", "16777216"],
        ),
        (
            "[rl]\nmax_completion_length = [{from_step = 0, limit = 2000000000}]",
            ["rl.max_completion_length", "2000000000", "out of range", "limits of 1 to 16777216"],
        ),
        ("[[stage]]\nkind = \"ppp\"\nname = \"a\"", ["my.toml", "line 2", "`ppp`", "`grpo`"]),
        ("[[stage]]\nkind = \"grpo\"\nname = \"a\"\nepsilon = -1", ["rl.epsilon", "-1", "out of range", "more than 0"]),
        ("[[stage]]\nkind = \"grpo\"\nname = \"a\"\nlerning = 1", ["stage `a`", "`lerning`", "`epsilon`", "`steps`"]),
        ("[[stage]]\nkind = \"grpo\"\nname = \"a/b\"", ["stage `a/b`", "letters", "`model`", "`evaluation`"]),
        ("[[stage]]\nkind = \"grpo\"\nname = \"a\"\nfrom = \"b\"", ["stage `a`", "earlier stage", "found", "`b`"]),
        ("tasks = [\"a\", \"a\"]", ["tasks", "[\"a\", \"a\"]", "out of range", "each once"]),
        ("stage = []", ["stage", "[]", "out of range", "one stage or more"]),
        ("[rl]\nmax_completion_length = []", ["rl.max_completion_length", "[]", "out of range", "step 0"]),
    ] {
        let message = over(text).unwrap_err().to_string();
        for word in said {
            assert!(message.contains(word), "{word:?} is not in {message}");
        }
    }
}

#[test]
fn presets_and_controls_are_valid() {
    RunConfig::quick().validate().unwrap();
    for control in Control::ALL {
        let mut config = RunConfig::default();
        control.apply(&mut config);
        config.validate().unwrap();
        assert_ne!(config, RunConfig::default());
        let unchanged = config.base == BaseConfig::default();
        assert_eq!(unchanged, !control.changes_base(), "{control}");
        assert_eq!(control.to_string().parse::<Control>().unwrap(), control);
    }
    assert!("no-luck".parse::<Control>().unwrap_err().to_string().contains("no-limit-jump"));
}

#[test]
fn schedules() {
    let config = RunConfig::default();
    assert_eq!([0, 23, 24, 79].map(|s| config.rl.max_completion_length_at(s)), [120, 120, 600, 600]);
    let rl = RlConfig { steps: 100, lr: 1.0, ..config.rl };
    for (step, lr) in [(0, 1.0), (25, 1.0), (85, 0.24), (99, 0.05 + 0.95 / 75.0)] {
        assert!((rl.lr_at(step) - lr).abs() < 1e-12, "step {step}: {}", rl.lr_at(step));
    }
    let b = BaseConfig { steps: 1000, warmup_steps: 100, lr: 1.0, ..config.base };
    for (step, lr) in [(0, 0.01), (49, 0.5), (99, 1.0), (600, 1.0), (800, 0.525), (999, 0.05 + 0.95 / 400.0)] {
        assert!((b.lr_at(step) - lr).abs() < 1e-12, "step {step}: {}", b.lr_at(step));
    }
}

#[test]
fn a_file_from_windows_is_read_and_another_kind_of_file_is_called_what_it_is() {
    let path = std::env::temp_dir().join(format!("scratchwork-config-{}.toml", std::process::id()));
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        RunConfig::default().overlay(&path).map_err(|e| e.to_string())
    };
    assert_eq!(read("\u{feff}seed = 3\r\n".as_bytes()).unwrap().seed, 3);
    let wide: Vec<u8> = "seed = 3".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, what) in
        [(&wide[..], "this is UTF-16"), (b"seed = 3 # \xe9", "this is not UTF-8"), (b"<!DOCTYPE html>", "HTML page")]
    {
        let said = read(bytes).unwrap_err();
        assert!(said.starts_with(&format!("{}: ", path.display())) && said.contains(what), "{said}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_stage_is_laid_over_its_table() {
    let text = "[rl]\nlr = 3e-4\n[[stage]]\nkind = 'grpo'\nname = 'a'\nsteps = 7\nreward_weights = { consistency = 0.5 }";
    let config = over(text).unwrap();
    let RlConfig { lr, steps, reward_weights, .. } = config.stages[0].reinforcement(&config).unwrap();
    assert_eq!((lr, steps, reward_weights.accuracy, reward_weights.consistency), (3e-4, 7, 1.0, 0.5));
    assert_eq!(config.rl.steps, RlConfig::default().steps);
}
