//! What a policy wrote, taken apart.

use std::ops::Range;

use crate::tokenizer::Tokenizer;

/// What a policy wrote after a prompt, taken apart. The only place where a response is parsed.
///
/// The prompt ends with `<think>`, so that a response which keeps to the template reads
/// `thinking</think><answer>answer</answer><eos>`, with no other tag in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    text: String,
    length: usize,
    think: Range<usize>,
    answer: Option<Range<usize>>,
    finished: bool,
}

const END: &str = "<eos>";

impl Response {
    /// Takes apart the tokens that were generated; what follows an `<eos>` is ignored.
    pub fn from_tokens(tokenizer: &Tokenizer, tokens: &[i64]) -> Response {
        let end = tokens.iter().position(|&id| id == crate::token::EOS);
        let tokens = &tokens[..end.map_or(tokens.len(), |end| end + 1)];
        Self::from_text(tokenizer.decode(tokens), tokens.len())
    }

    /// Takes apart a text of `length` tokens.
    pub fn from_text(text: impl Into<String>, length: usize) -> Response {
        let mut text = text.into();
        let end = text.find(END);
        text.truncate(end.map_or(text.len(), |end| end + END.len()));
        let close = text.find("</think>");
        let mut response =
            Response { think: 0..close.or(end).unwrap_or(text.len()), answer: None, finished: end.is_some(), length, text };
        response.answer = response.find_answer();
        response
    }

    fn find_answer(&self) -> Option<Range<usize>> {
        let rest = self.text.get(self.think.end..)?;
        let answer = rest.strip_prefix("</think><answer>")?.strip_suffix("</answer><eos>")?;
        let start = self.think.end + "</think><answer>".len();
        let no_tag = |part: &str| !part.contains(['<', '>']);
        (no_tag(self.think()) && no_tag(answer)).then_some(start..start + answer.len())
    }

    /// All of it, up to and with the `<eos>`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many tokens it has, its `<eos>` counted.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The thinking: what stands before `</think>`, or everything if thinking never ended.
    pub fn think(&self) -> &str {
        &self.text[self.think.clone()]
    }

    /// The text between the answer tags, if the response is finished and keeps to the template.
    pub fn answer(&self) -> Option<&str> {
        self.answer.clone().map(|range| &self.text[range])
    }

    /// Whether it ended by itself. A response that is not finished was cut off at the length limit.
    pub fn finished(&self) -> bool {
        self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    fn response(text: &str) -> Response {
        let tokenizer = Tokenizer::new();
        Response::from_tokens(&tokenizer, &tokenizer.encode(text).unwrap())
    }

    #[test]
    fn a_response_is_taken_apart() {
        let whole = response("2+4=6?6v</think><answer>2+4</answer><eos><pad><pad>");
        assert_eq!((whole.think(), whole.answer(), whole.finished()), ("2+4=6?6v", Some("2+4"), true));
        assert_eq!(whole.length(), 15);
        assert!(whole.text().ends_with("<eos>"));

        let cut = response("2+4=6?7x");
        assert_eq!((cut.think(), cut.answer(), cut.finished()), ("2+4=6?7x", None, false));
        let cut_late = response("2+4=6</think><answer>2+4</answer>");
        assert_eq!((cut_late.think(), cut_late.answer(), cut_late.finished()), ("2+4=6", None, false));
        let silent = response("2+4<eos>");
        assert_eq!((silent.think(), silent.answer(), silent.finished()), ("2+4", None, true));
    }

    #[test]
    fn only_the_template_has_an_answer() {
        for text in [
            "<answer>3</answer><eos>",
            "1</think>2<answer>3</answer><eos>",
            "1</think><answer>3</answer>2<eos>",
            "1<think></think><answer>3</answer><eos>",
            "1</think></think><answer>3</answer><eos>",
            "1</think><answer>3</think></answer><eos>",
            "1</think><answer>3</answer><answer>3</answer><eos>",
            "1<pad></think><answer>3</answer><eos>",
            "1</think><answer>3<eos>",
        ] {
            assert_eq!(response(text).answer(), None, "{text}");
        }
        assert_eq!(response("</think><answer></answer><eos>").answer(), Some(""));
    }

    proptest! {
        #[test]
        fn any_tokens_are_taken_apart(tokens in prop::collection::vec(-1i64..31, 0..40)) {
            let response = Response::from_tokens(&Tokenizer::new(), &tokens);
            let eos = tokens.iter().position(|&id| id == crate::token::EOS);
            prop_assert_eq!(response.finished(), eos.is_some());
            prop_assert_eq!(response.length(), eos.map_or(tokens.len(), |at| at + 1));
            prop_assert!(response.text().starts_with(response.think()));
        }
    }
}
