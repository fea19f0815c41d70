//! The text of the responses: plain sentences for people, with one word per token.

/// Each sentence begins with a space, because it follows another sentence.
const SENTENCES: [&str; 16] = [
    " A queue forms wherever work arrives faster than it is done.",
    " While a server has room to spare, one more request hardly changes the wait of the others.",
    " Close to its limit the same request makes everybody wait.",
    " That is why an average says little, and the slowest one in a hundred says much.",
    " The first word of an answer takes the longest, because the whole question is read before it.",
    " After that the words come at an even pace, a little slower when many answers are written at once.",
    " People notice the first wait more than the pace, as long as the text arrives faster than they read.",
    " A steady load shows what a system can bear for hours.",
    " A sudden one shows how it recovers.",
    " Both are worth knowing before the day on which it matters.",
    " Good measurements are taken from where the customer stands.",
    " A clock that starts late makes every result look better than it was.",
    " If an answer never comes, that is a result too, and it has to be counted.",
    " Numbers that nobody can repeat are only anecdotes.",
    " Change one thing at a time, write down what you expected, and look again.",
    " In the end a short list of honest figures helps more than a long report.",
];

const REASONING: [&str; 5] = [
    " Let me think about what is being asked here.",
    " There are a few ways to look at it, so I should weigh them first.",
    " The simple explanation covers most of the case.",
    " I want to check it against an example before I answer.",
    " That seems right, and now I can say it in plain words.",
];

/// An endless text.
#[derive(Clone, Debug)]
pub(super) struct SampleText {
    sentences: &'static [&'static str],
    next: usize,
    rest: &'static str,
    has_begun: bool,
}

impl SampleText {
    /// `topic` is the index of the first sentence.
    pub(super) fn answer(topic: usize) -> SampleText {
        SampleText::new(&SENTENCES, topic)
    }

    pub(super) fn reasoning(topic: usize) -> SampleText {
        SampleText::new(&REASONING, topic)
    }

    fn new(sentences: &'static [&'static str], topic: usize) -> SampleText {
        SampleText { sentences, next: topic % sentences.len(), rest: "", has_begun: false }
    }

    /// Returns a word, with the space before it as in many tokenizers. The first token has no
    /// space.
    pub(super) fn next_token(&mut self) -> &'static str {
        if self.rest.is_empty() {
            self.rest = self.sentences.get(self.next).copied().unwrap_or(" Again.");
            self.next = (self.next + 1) % self.sentences.len();
        }
        let space = self.rest.char_indices().skip(1).find(|(_, c)| *c == ' ');
        let (token, rest) = self.rest.split_at(space.map_or(self.rest.len(), |(at, _)| at));
        self.rest = rest;
        if std::mem::replace(&mut self.has_begun, true) { token } else { token.trim_start() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_continues_with_the_next_sentence_for_ever() {
        let mut text = SampleText::answer(14);
        let tokens: Vec<_> = (0..400).map(|_| text.next_token()).collect();
        assert_eq!(&tokens[..4], ["Change", " one", " thing", " at"]);
        assert!(tokens.concat().contains("a long report. A queue forms"));
    }

    #[test]
    fn every_number_is_a_valid_topic_and_topics_begin_differently() {
        assert_ne!(SampleText::answer(0).next_token(), SampleText::answer(1).next_token());
        assert_eq!(
            SampleText::reasoning(usize::MAX).next_token(),
            SampleText::reasoning(usize::MAX).next_token()
        );
    }
}
