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

/// Splits a text into nginx's words and punctuation.
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
                    self.skip_line();
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

    /// Passes over what is inside a block of Lua, up to the brace that closes it. As for
    /// lua-nginx-module's own reader, a brace in a string or a comment is none.
    pub fn skip_lua_block(&mut self) {
        let mut depth = 1;
        while depth > 0 {
            match self.peek() {
                None => return,
                Some(quote @ (b'"' | b'\'')) => self.skip_lua_string(quote),
                Some(b'-') if self.rest().starts_with(b"--") => {
                    self.skip(2);
                    if !self.skip_lua_long_bracket() {
                        self.skip_line();
                    }
                }
                Some(b'[') if self.skip_lua_long_bracket() => {}
                Some(byte) => {
                    match byte {
                        b'{' => depth += 1,
                        b'}' => depth -= 1,
                        _ => {}
                    }
                    self.step();
                }
            }
        }
    }

    fn skip_lua_string(&mut self, quote: u8) {
        self.step();
        while let Some(byte) = self.peek() {
            match byte {
                b'\\' => self.skip(2),
                // It was not closed: no string goes on in the next line.
                b'\n' => return,
                _ => self.step(),
            }
            if byte == quote {
                return;
            }
        }
    }

    /// Passes over `[[...]]`, `[=[...]=]` and so on; false where there is none.
    fn skip_lua_long_bracket(&mut self) -> bool {
        let Some(rest) = self.rest().strip_prefix(b"[") else { return false };
        let level = rest.iter().take_while(|byte| **byte == b'=').count();
        if rest.get(level) != Some(&b'[') {
            return false;
        }
        let closing = [b"]".as_slice(), &rest[..level], b"]"].concat();
        let end = rest.windows(closing.len()).skip(level + 1).position(|it| it == closing);
        self.skip(end.map_or(rest.len(), |at| level + 1 + at + closing.len()) + 1);
        true
    }

    fn skip_line(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.step();
        }
    }

    fn skip(&mut self, bytes: usize) {
        (0..bytes).for_each(|_| self.step());
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
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
    fn blocks_of_lua_are_passed_over() {
        for lua in [
            "x = {}",
            "ngx.say(\"}\")",
            "ngx.say('{')",
            r#"ngx.say("\"}", '\'}', "\\")"#,
            "-- don't panic: }\n",
            "--[[ don't\n } ]] x = {}",
            "--[==[ ]] } ]==]",
            "local a = [[ \" } ]] .. [=[ ]] } ]=]",
            "t[1] = t[t[1]]",
            "a = b - c -- \"\n",
        ] {
            let text = format!("{lua} }} next;");
            let mut lexer = Lexer::new(text.as_bytes());
            lexer.skip_lua_block();
            assert_eq!(lexer.next_token(), Ok(Some(Token::Word("next".into()))), "{lua}");
            assert_eq!(lexer.line(), 1 + lua.matches('\n').count(), "{lua}");
        }
        for lua in ["", "{}", "[[", "'", "--", "\""] {
            let mut lexer = Lexer::new(lua.as_bytes());
            lexer.skip_lua_block();
            assert_eq!(lexer.next_token(), Ok(None), "{lua}");
        }
    }

    #[test]
    fn what_nginx_cannot_read_is_an_error() {
        let error = |text: &str| Lexer::new(text.as_bytes()).next_token().unwrap_err();
        assert_eq!(error("\"abc"), LexError::Unclosed);
        assert_eq!(error("'a'b;"), LexError::Glued);
    }
}
