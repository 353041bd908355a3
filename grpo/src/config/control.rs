use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{RunConfig, RunConfigError};

/// A counter-experiment: the same run with one cause of the effect taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// No example holds a second attempt: is retrying found by RL, or only made frequent?
    NoRetries,
    /// No drills: can a policy that checks badly learn to rely on its checks?
    NoDrills,
    /// The first length limit holds to the end: does more room to think matter?
    NoLimitJump,
}

impl Control {
    /// Every control.
    pub const ALL: [Self; 3] = [Self::NoRetries, Self::NoDrills, Self::NoLimitJump];

    /// Whether it changes the corpus, so that a base model of another run (`--base`) cannot serve.
    pub fn changes_base(self) -> bool {
        self != Self::NoLimitJump
    }

    /// Takes the cause away.
    pub fn apply(self, config: &mut RunConfig) {
        match self {
            Self::NoRetries => {
                config.base.p_continue = 0.0;
                config.base.drill_attempts = [1, 1];
                config.base.long_every = 0;
            }
            Self::NoDrills => {
                config.base.drill_share = 0.0;
                config.base.long_every = 0;
            }
            Self::NoLimitJump => config.rl.max_completion_length.truncate(1),
        }
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRetries => "no-retries",
            Self::NoDrills => "no-drills",
            Self::NoLimitJump => "no-limit-jump",
        })
    }
}

impl FromStr for Control {
    type Err = RunConfigError;

    fn from_str(s: &str) -> Result<Self, RunConfigError> {
        Self::ALL.into_iter().find(|c| c.to_string() == s).ok_or_else(|| RunConfigError::Control(s.into()))
    }
}
