//! Words, semicolons and braces of an nginx configuration, by the rules of nginx's own reader.

/// A part of a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Token {
    /// A name or an argument, without its quotes.
    Word(String),
    /// `;`
    End,
    /// `{`
    Open,
    /// `}`
    Close,
}

/// Why a text is no configuration.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LexError {
    /// A quote is never closed.
    #[error("a quoted text is not closed")]
    Unclosed,
    /// `"a"b`
    #[error("something follows a closing quote without a space")]
    Glued,
}

/// Takes a text apart.
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    /// At the beginning of `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, line: 1 }
    }

    /// The line of the token that came last.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The next token; `None` at the end.
    pub fn next_token(&mut self) -> Result<Option<Token>, LexError> {
        loop {
            let Some(byte) = self.peek() else { return Ok(None) };
            let token = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    self.step();
                    continue;
                }
                b'#' => {
                    while self.peek().is_some_and(|byte| byte != b'\n') {
                        self.step();
                    }
                    continue;
                }
                b';' => Token::End,
                b'{' => Token::Open,
                b'}' => Token::Close,
                b'"' | b'\'' => return self.quoted(byte).map(Some),
                _ => return Ok(Some(self.word())),
            };
            self.step();
            return Ok(Some(token));
        }
    }

    /// Passes over what is inside a block in another language, up to the brace that closes it.
    pub fn skip_block(&mut self) {
        let mut depth = 1;
        while let Some(byte) = self.peek() {
            self.step();
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<Token, LexError> {
        self.step();
        let mut word = Vec::new();
        loop {
            match self.peek().ok_or(LexError::Unclosed)? {
                byte if byte == quote => break,
                b'\\' => self.escape(&mut word),
                byte => {
                    word.push(byte);
                    self.step();
                }
            }
        }
        self.step();
        match self.peek() {
            None | Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b')') => Ok(text(word)),
            Some(_) => Err(LexError::Glued),
        }
    }

    fn word(&mut self) -> Token {
        let mut word = Vec::new();
        // "${name}" is a part of a word, any other brace begins a block.
        let mut after_dollar = false;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b';' => break,
                b'{' if !after_dollar => break,
                b'\\' => {
                    self.escape(&mut word);
                    after_dollar = false;
                }
                _ => {
                    word.push(byte);
                    after_dollar = byte == b'$';
                    self.step();
                }
            }
        }
        text(word)
    }

    /// A backslash and what follows it: some are replaced, all others stay as they are.
    fn escape(&mut self, word: &mut Vec<u8>) {
        self.step();
        let Some(byte) = self.peek() else { return word.push(b'\\') };
        self.step();
        match byte {
            b'"' | b'\'' | b'\\' => word.push(byte),
            b't' => word.push(b'\t'),
            b'r' => word.push(b'\r'),
            b'n' => word.push(b'\n'),
            _ => word.extend([b'\\', byte]),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn step(&mut self) {
        if self.peek() == Some(b'\n') {
            self.line += 1;
        }
        self.at += 1;
    }
}

fn text(bytes: Vec<u8>) -> Token {
    Token::Word(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut words = Vec::new();
        while let Some(token) = lexer.next_token().unwrap() {
            words.push(match token {
                Token::Word(word) => word,
                Token::End => "<;>".into(),
                Token::Open => "<{>".into(),
                Token::Close => "<}>".into(),
            });
        }
        words
    }

    #[test]
    fn words_end_where_nginx_ends_them() {
        assert_eq!(words("a b;c{d;}"), ["a", "b", "<;>", "c", "<{>", "d", "<;>", "<}>"]);
        assert_eq!(words("set $a ${b}c;"), ["set", "$a", "${b}c", "<;>"]);
        assert_eq!(words("a#b # c ; {\nd;"), ["a#b", "d", "<;>"]);
        assert_eq!(words("a }b"), ["a", "<}>", "b"]);
    }

    #[test]
    fn quotes_and_escapes_are_undone_as_nginx_does() {
        assert_eq!(words(r#"a "b c;{" 'd "e"' "";"#), ["a", "b c;{", "d \"e\"", "", "<;>"]);
        assert_eq!(words(r#""a\"b" c\;d "\t\d\\";"#), ["a\"b", r"c\;d", "\t\\d\\", "<;>"]);
        assert_eq!(words("\"~^([^/]+)/\\1$\" 1;"), ["~^([^/]+)/\\1$", "1", "<;>"]);
    }

    #[test]
    fn what_nginx_cannot_read_is_an_error() {
        let error = |text: &str| Lexer::new(text.as_bytes()).next_token().unwrap_err();
        assert_eq!(error("\"abc"), LexError::Unclosed);
        assert_eq!(error("'a'b;"), LexError::Glued);
    }
}
