//! The character-level tokenizer: tags are single tokens, everything else is one token a character.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Ids that have a meaning to the program, the same in every vocabulary a [`Tokenizer`] accepts.
///
/// Ids are `i64`, as in the index tensors that carry them.
pub mod token {
    /// Fills a batch to the right of a sequence.
    pub const PAD: i64 = 0;
    /// Starts every prompt.
    pub const BOS: i64 = 1;
    /// `<think>`: ends every prompt, so that a completion begins with thinking.
    pub const THINK: i64 = 2;
    /// `</think>`
    pub const END_THINK: i64 = 3;
    /// `<answer>`
    pub const ANSWER: i64 = 4;
    /// `</answer>`
    pub const END_ANSWER: i64 = 5;
    /// Ends a completion.
    pub const EOS: i64 = 6;
    /// `x`: the verdict of a check that failed.
    pub const WRONG: i64 = 7;
    /// `v`: the verdict of a check that came out right.
    pub const RIGHT: i64 = 8;
}

/// The tokens of more than one character, in the order of their ids in [`token`].
const TAGS: [&str; 7] = ["<pad>", "<bos>", "<think>", "</think>", "<answer>", "</answer>", "<eos>"];
/// The tokens that stand for themselves; the first two are the verdicts.
pub(crate) const CHARACTERS: &str = "xv0123456789+-*/()=,:?";

/// Turns text into token ids and back.
///
/// ```
/// use grpo::Tokenizer;
/// let tokenizer = Tokenizer::new();
/// let ids = tokenizer.encode("<bos>1,2:3<think>").unwrap();
/// assert_eq!(ids.len(), 7);
/// assert_eq!(tokenizer.decode(&ids), "<bos>1,2:3<think>");
/// assert_eq!(tokenizer.encode("1 2").unwrap_err().to_string(), "' ' at position 1 is not in the vocabulary");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenizer {
    tokens: Vec<String>,
    characters: HashMap<char, i64>,
}

/// A character that has no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{character:?} at position {position} is not in the vocabulary")]
pub struct EncodeError {
    /// The character.
    pub character: char,
    /// How many characters stand before it.
    pub position: usize,
}

/// Why a `tokenizer.json` was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not JSON at all.
    #[error("the tokenizer is not JSON: {0}")]
    Json(String),
    /// JSON of a tokenizer that this one is not.
    #[error("tokenizer key {key}: expected {expected}, found {found}")]
    Unsupported {
        /// Where in the file.
        key: String,
        /// What would have been read.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Any of these, in a file.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<TokenizerError>,
    },
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Tokenizer {
    /// The flagship's vocabulary: seven tags, the verdicts `x` and `v`, and `0123456789+-*/()=,:?`.
    pub fn new() -> Tokenizer {
        let tags = TAGS.iter().map(|tag| tag.to_string());
        Self::from_tokens(tags.chain(CHARACTERS.chars().map(String::from)).collect())
    }

    /// The same with further characters, in the order in which they first occur. Those that it has already are left out.
    ///
    /// # Panics
    /// If the alphabet holds a NUL, which no file of a tokenizer may.
    #[track_caller]
    pub fn with(alphabet: &str) -> Tokenizer {
        assert!(!alphabet.contains('\0'), "a tokenizer has no NUL");
        let mut tokens = Self::new().tokens;
        for character in alphabet.chars().map(String::from) {
            if !tokens.contains(&character) {
                tokens.push(character);
            }
        }
        Self::from_tokens(tokens)
    }

    fn from_tokens(tokens: Vec<String>) -> Tokenizer {
        let characters = tokens.iter().enumerate().skip(TAGS.len());
        let characters = characters.filter_map(|(id, token)| Some((token.chars().next()?, id as i64))).collect();
        Tokenizer { tokens, characters }
    }

    /// How many tokens there are; ids are `0..vocab_size()`.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The ids of `text`. A tag is one token wherever it is spelled out.
    ///
    /// # Errors
    /// The first character without a token, and its position.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, EncodeError> {
        let mut ids = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let tag = (character == '<').then(|| TAGS.iter().position(|tag| rest.starts_with(tag))).flatten();
            let (id, width) = match (tag, self.characters.get(&character)) {
                (Some(tag), _) => (tag as i64, TAGS[tag].len()),
                (None, Some(&id)) => (id, character.len_utf8()),
                (None, None) => {
                    let position = text[..text.len() - rest.len()].chars().count();
                    return Err(EncodeError { character, position });
                }
            };
            ids.push(id);
            rest = &rest[width..];
        }
        Ok(ids)
    }

    /// The text of `ids`. An id outside the vocabulary (a model may have more rows than there are tokens) becomes `�`.
    pub fn decode(&self, ids: &[i64]) -> String {
        let token = |&id: &i64| usize::try_from(id).ok().and_then(|id| self.tokens.get(id));
        ids.iter().map(|id| token(id).map_or("\u{fffd}", String::as_str)).collect()
    }

    /// The Hugging Face `tokenizer.json`: a `WordLevel` model behind a `Split` into single characters, and a post-processor that puts
    /// `<bos>` in front, as [`Problem::prompt`](crate::task::Problem::prompt) does.
    pub fn to_json(&self) -> Value {
        let added = TAGS.iter().enumerate().map(|(id, tag)| {
            // As in DeepSeek-R1's own file, the thinking tags are not "special": skipping special tokens shows them.
            let special = ["<pad>", "<bos>", "<eos>"].contains(tag);
            json!({"id": id, "content": tag, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": special})
        });
        let vocab = self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id)));
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
            "post_processor": begins_with_bos(),
            "decoder": {"type": "Fuse"},
            // The format demands the name of an unknown token. It is not in the vocabulary, so that an unknown
            // character is an error there as it is here.
            "model": {"type": "WordLevel", "vocab": vocab.collect::<serde_json::Map<_, _>>(), "unk_token": "<unk>"},
        })
    }

    /// The `tokenizer_config.json` that goes with [`to_json`](Self::to_json).
    pub fn config_json(&self) -> Value {
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "add_bos_token": true,
            "add_eos_token": false,
            "clean_up_tokenization_spaces": false,
            "chat_template": "{{ bos_token }}{{ messages[-1]['content'] }}<think>",
        })
    }

    /// Reads what [`to_json`](Self::to_json) wrote; another character vocabulary is welcome if its tags have our ids.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for any other kind of tokenizer, naming the key.
    pub fn from_json(json: &Value) -> Result<Tokenizer, TokenizerError> {
        let unsupported = |key: String, expected: String, found: &Value| {
            Err(TokenizerError::Unsupported { key, expected, found: found.to_string() })
        };
        for (pointer, expected) in [
            ("/model/type", json!("WordLevel")),
            ("/pre_tokenizer/type", json!("Split")),
            ("/pre_tokenizer/behavior", json!("Isolated")),
            ("/normalizer", Value::Null),
            ("/post_processor", begins_with_bos()),
        ] {
            let found = json.pointer(pointer).unwrap_or(&Value::Null);
            // Older files of ours have no post-processor.
            if *found != expected && !(pointer == "/post_processor" && found.is_null()) {
                return unsupported(pointer.to_string(), expected.to_string(), found);
            }
        }
        let Some(vocab) = json.pointer("/model/vocab").and_then(Value::as_object) else {
            return unsupported("/model/vocab".into(), "an object".into(), &Value::Null);
        };
        let mut tokens = vec![String::new(); vocab.len()];
        for (token, id) in vocab {
            match id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?)) {
                Some(slot) if slot.is_empty() => *slot = token.clone(),
                _ => {
                    let expected = format!("the ids 0 to {}, each once", vocab.len() - 1);
                    return unsupported(format!("/model/vocab/{token}"), expected, id);
                }
            }
        }
        let wanted = |id: usize| {
            TAGS.get(id).map(|tag| tag.to_string()).or_else(|| match id as i64 {
                token::WRONG => Some("x".to_string()),
                token::RIGHT => Some("v".to_string()),
                _ => None,
            })
        };
        for id in 0..tokens.len().max(TAGS.len() + 2) {
            let found = tokens.get(id).cloned().unwrap_or_default();
            let expected = match wanted(id) {
                Some(expected) if expected != found => expected,
                None if found.chars().count() != 1 => "a single character".to_string(),
                _ => continue,
            };
            return unsupported(format!("/model/vocab, id {id}"), expected, &Value::String(found));
        }
        Ok(Self::from_tokens(tokens))
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into `folder`.
    ///
    /// # Errors
    /// [`TokenizerError::Io`] with the file's name.
    pub fn save(&self, folder: &Path) -> Result<(), TokenizerError> {
        for (name, json) in [("tokenizer.json", self.to_json()), ("tokenizer_config.json", self.config_json())] {
            let path = folder.join(name);
            let text = serde_json::to_string_pretty(&json).expect("JSON is plain data") + "\n";
            nn::write_atomic(&path, text.as_bytes()).map_err(|source| TokenizerError::Io { path, source })?;
        }
        Ok(())
    }

    /// Reads `tokenizer.json` from `folder`.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), with the file's name.
    pub fn load(folder: &Path) -> Result<Tokenizer, TokenizerError> {
        let path = folder.join("tokenizer.json");
        let bytes = fs::read(&path).map_err(|source| TokenizerError::Io { path: path.clone(), source })?;
        let text = nn::text::decode(&bytes).map_err(|e| e.to_string());
        let json = text.and_then(|text| serde_json::from_str(text).map_err(|e| e.to_string())).map_err(TokenizerError::Json);
        let read = json.and_then(|json| Self::from_json(&json));
        read.map_err(|source| TokenizerError::InFile { path, source: Box::new(source) })
    }
}

/// The post-processor of a `tokenizer.json` whose texts begin with `<bos>`.
fn begins_with_bos() -> Value {
    let tag = TAGS[token::BOS as usize];
    let bos = |kind: usize| json!({"SpecialToken": {"id": tag, "type_id": kind}});
    let text = |name: &str, kind: usize| json!({"Sequence": {"id": name, "type_id": kind}});
    json!({
        "type": "TemplateProcessing",
        "single": [bos(0), text("A", 0)],
        "pair": [bos(0), text("A", 0), bos(1), text("B", 1)],
        "special_tokens": {tag: {"id": tag, "ids": [token::BOS], "tokens": [tag]}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_named_ids_are_the_tokens_they_name() {
        let tokenizer = Tokenizer::new();
        for (id, text) in [
            (token::PAD, "<pad>"),
            (token::BOS, "<bos>"),
            (token::THINK, "<think>"),
            (token::END_THINK, "</think>"),
            (token::ANSWER, "<answer>"),
            (token::END_ANSWER, "</answer>"),
            (token::EOS, "<eos>"),
            (token::WRONG, "x"),
            (token::RIGHT, "v"),
        ] {
            assert_eq!(tokenizer.encode(text).unwrap(), [id]);
            assert_eq!(tokenizer.decode(&[id]), text);
        }
        assert_eq!(tokenizer.vocab_size(), 29);
        assert_eq!(tokenizer.decode(&[29, -1]), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn further_characters_come_behind() {
        let more = Tokenizer::with("b a3b");
        assert_eq!(more.vocab_size(), 32);
        assert_eq!(more.encode("3b a").unwrap(), [12, 29, 30, 31]);
        assert_eq!(Tokenizer::with("0<"), Tokenizer::with("<"));
        assert_eq!(Tokenizer::with(""), Tokenizer::new());
        assert_eq!(Tokenizer::from_json(&more.to_json()).unwrap(), more);
    }

    #[test]
    fn an_unknown_character_is_named_with_its_position() {
        let error = Tokenizer::new().encode("<think>1+é").unwrap_err();
        assert_eq!(error, EncodeError { character: 'é', position: 9 });
        let error = Tokenizer::new().encode("1<thinking>").unwrap_err();
        assert_eq!(error, EncodeError { character: '<', position: 1 });
    }

    #[test]
    fn json_is_read_back_and_strangers_are_refused() {
        let tokenizer = Tokenizer::new();
        assert_eq!(Tokenizer::from_json(&tokenizer.to_json()).unwrap(), tokenizer);
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut json = tokenizer.to_json();
            change(&mut json);
            Tokenizer::from_json(&json).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&|json| json["model"]["type"] = json!("BPE")),
            "tokenizer key /model/type: expected \"WordLevel\", found \"BPE\""
        );
        assert!(refused(&|json| json["model"]["vocab"]["?"] = json!(3)).contains("each once"));
        assert!(refused(&|json| json["model"]["vocab"]["?"] = json!(300)).contains("0 to 28"));
        let swapped = refused(&|json| {
            json["model"]["vocab"]["x"] = json!(token::RIGHT);
            json["model"]["vocab"]["v"] = json!(token::WRONG);
        });
        assert_eq!(swapped, "tokenizer key /model/vocab, id 7: expected x, found \"v\"");
        assert!(refused(&|json| json["model"]["vocab"] = json!({"<pad>": 0})).contains("id 1"));
    }

    /// What Hugging Face's `tokenizers` does with the file (checked with transformers 4.57 and 5.24): the added tokens are cut out,
    /// what is between them falls into characters, each is looked up, and the template of a single text is laid around.
    fn ids_by_the_file(json: &Value, text: &str) -> Vec<i64> {
        let (mut ids, mut rest) = (Vec::new(), text);
        let id = |token: &str| json["model"]["vocab"][token].as_i64().unwrap();
        let added: Vec<&str> = json["added_tokens"].as_array().unwrap().iter().map(|t| t["content"].as_str().unwrap()).collect();
        while let Some(character) = rest.chars().next() {
            let token = added.iter().find(|tag| rest.starts_with(**tag)).map_or(&rest[..character.len_utf8()], |tag| tag);
            ids.push(id(token));
            rest = &rest[token.len()..];
        }
        let processor = &json["post_processor"];
        let place = |place: &Value| match place["SpecialToken"]["id"].as_str() {
            Some(tag) => serde_json::from_value(processor["special_tokens"][tag]["ids"].clone()).unwrap(),
            None => ids.clone(),
        };
        processor["single"].as_array().map_or(ids.clone(), |all| all.iter().flat_map(place).collect())
    }

    #[test]
    fn a_text_gets_the_ids_of_a_prompt_from_the_saved_file() {
        let tokenizer = Tokenizer::new();
        let json = tokenizer.to_json();
        for text in ["2,3,4,10:7<think>", "", "<answer>1+2</answer><eos>"] {
            let ours = [vec![token::BOS], tokenizer.encode(text).unwrap()].concat();
            assert_eq!(ids_by_the_file(&json, text), ours, "{text:?}");
        }
        let problem = crate::Problem::from(crate::tasks::Countdown::new([2, 3, 4, 10], 7));
        assert_eq!(ids_by_the_file(&json, "2,3,4,10:7<think>"), problem.prompt(&tokenizer).unwrap());
        assert_eq!(tokenizer.config_json()["add_bos_token"], json!(true));
        // Files without it are ours from before; any other one would give other ids.
        let mut older = json.clone();
        older["post_processor"] = Value::Null;
        assert_eq!(Tokenizer::from_json(&older).unwrap(), tokenizer);
        let mut other = json.clone();
        other["post_processor"]["single"].as_array_mut().unwrap().push(json!({"SpecialToken": {"id": "<eos>", "type_id": 0}}));
        let said = Tokenizer::from_json(&other).unwrap_err().to_string();
        assert!(said.starts_with("tokenizer key /post_processor: expected"), "{said}");
    }

    #[test]
    fn a_folder_round_trips_and_a_missing_one_is_named() {
        let folder = std::env::temp_dir().join(format!("scratchwork-tokenizer-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Tokenizer::new().save(&folder).unwrap();
        assert_eq!(Tokenizer::load(&folder).unwrap(), Tokenizer::new());
        // As an editor on Windows saves it, and what it may save instead.
        let (file, text) = (folder.join("tokenizer.json"), Tokenizer::new().to_json().to_string());
        fs::write(&file, format!("\u{feff}{text}")).unwrap();
        assert_eq!(Tokenizer::load(&folder).unwrap(), Tokenizer::new());
        fs::write(&file, text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>()).unwrap();
        let error = Tokenizer::load(&folder).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("this is UTF-16"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
        let error = Tokenizer::load(&folder).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(ids in prop::collection::vec(0i64..29, 0..60)) {
            let tokenizer = Tokenizer::new();
            prop_assert_eq!(tokenizer.encode(&tokenizer.decode(&ids)).unwrap(), ids);
        }

        #[test]
        fn any_text_is_encoded_or_refused(text in any::<String>()) {
            let tokenizer = Tokenizer::new();
            match tokenizer.encode(&text) {
                Ok(ids) => prop_assert_eq!(tokenizer.decode(&ids), text),
                Err(error) => prop_assert_eq!(text.chars().nth(error.position), Some(error.character)),
            }
        }
    }
}
