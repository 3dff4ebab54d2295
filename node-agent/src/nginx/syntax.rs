//! Nginx's configuration language as a tree that can only be written correctly.
//!
//! A [`Word`] is a value that came from somewhere: it cannot be made from a text that could end a directive, open a
//! block, name a variable or begin a comment. A fixed text is part of this program, is known when it is compiled, and
//! may use Nginx's variables.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The longest word. Host names have 253 bytes at most, paths on Linux 4096.
const WORD_BYTES_MAX: usize = 4096;

/// A value that is safe to stand in a configuration as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word(String);

/// A text that cannot stand in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot stand in an Nginx configuration")]
pub(super) struct NotAWord(pub String);

impl Word {
    /// Takes a text that is one plain word.
    pub(super) fn new(text: impl Into<String>) -> Result<Self, NotAWord> {
        let text = text.into();
        let special = |c: char| c.is_control() || c.is_whitespace() || ";{}\"'\\$#".contains(c);
        if text.is_empty() || text.len() > WORD_BYTES_MAX || text.contains(special) {
            return Err(NotAWord(text));
        }
        Ok(Self(text))
    }
}

impl From<u64> for Word {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

/// One argument of a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    /// A value that was checked.
    Word(Word),
    /// A text of this program, with Nginx's variables in it.
    Fixed(Cow<'static, str>),
}

impl From<&'static str> for Arg {
    fn from(text: &'static str) -> Self {
        Self::Fixed(Cow::Borrowed(text))
    }
}

impl From<Word> for Arg {
    fn from(word: Word) -> Self {
        Self::Word(word)
    }
}

/// What stands behind a directive's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing.
    None,
    /// More directives.
    Block(Vec<Directive>),
    /// A call of this program's Lua.
    Lua(Cow<'static, str>),
}

/// One directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// Its name.
    pub(super) name: Cow<'static, str>,
    /// Its arguments.
    pub(super) args: Vec<Arg>,
    /// What it encloses.
    pub(super) body: Body,
}

impl Directive {
    /// A directive that ends with a semicolon.
    pub(super) fn new(name: &'static str, args: impl IntoIterator<Item = Arg>) -> Self {
        Self { name: Cow::Borrowed(name), args: args.into_iter().collect(), body: Body::None }
    }

    /// A directive with texts of this program only.
    pub(super) fn fixed(name: &'static str, args: &[&'static str]) -> Self {
        Self::new(name, args.iter().map(|text| Arg::from(*text)))
    }

    /// A directive that encloses others.
    pub(super) fn block(name: &'static str, args: impl IntoIterator<Item = Arg>, inside: Vec<Self>) -> Self {
        Self { body: Body::Block(inside), ..Self::new(name, args) }
    }

    /// A directive that encloses one statement of Lua.
    pub(super) fn lua(name: &'static str, code: &'static str) -> Self {
        Self { body: Body::Lua(Cow::Borrowed(code)), ..Self::new(name, []) }
    }
}

/// The text of a configuration.
pub(super) fn print(directives: &[Directive]) -> String {
    let mut text = String::new();
    print_into(&mut text, directives, 0);
    text
}

fn print_into(text: &mut String, directives: &[Directive], depth: usize) {
    for directive in directives {
        let indent = "    ".repeat(depth);
        text.push_str(&indent);
        text.push_str(&plain_or_quoted(&directive.name));
        for arg in &directive.args {
            text.push(' ');
            match arg {
                Arg::Word(word) => text.push_str(&word.0),
                Arg::Fixed(fixed) => text.push_str(&quoted(fixed)),
            }
        }
        // Writing into a String cannot fail.
        match &directive.body {
            Body::None => text.push_str(";\n"),
            Body::Lua(code) => _ = writeln!(text, " {{ {code} }}"),
            Body::Block(inside) => {
                text.push_str(" {\n");
                print_into(text, inside, depth + 1);
                _ = writeln!(text, "{indent}}}");
            }
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn plain_or_quoted(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if !name.is_empty() && name.bytes().all(plain) { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq)]
    enum Token {
        Word(String),
        Quoted(String),
        End,
        Open,
        Close,
    }

    /// Reads a configuration as Nginx does, written from Nginx's description and not from `print`.
    fn tokens(text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                ';' => tokens.push(Token::End),
                '{' => tokens.push(Token::Open),
                '}' => tokens.push(Token::Close),
                '#' => while chars.next_if(|c| *c != '\n').is_some() {},
                '\'' => {
                    let mut word = String::new();
                    loop {
                        match chars.next().expect("a quote is closed") {
                            '\'' => break,
                            '\\' => word.push(chars.next().expect("an escape escapes something")),
                            c => word.push(c),
                        }
                    }
                    tokens.push(Token::Quoted(word));
                }
                c if c.is_whitespace() => {}
                c => {
                    let mut word = String::from(c);
                    while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !";{}".contains(*c)) {
                        word.push(c);
                    }
                    tokens.push(Token::Word(word));
                }
            }
        }
        tokens
    }

    fn parse(tokens: &mut std::iter::Peekable<std::vec::IntoIter<Token>>) -> Vec<Directive> {
        let mut directives = Vec::new();
        while let Some(token) = tokens.next_if(|token| *token != Token::Close) {
            let name = match token {
                Token::Word(name) | Token::Quoted(name) => name,
                other => panic!("a directive begins with {other:?}"),
            };
            let (mut args, lua) = (Vec::new(), name.ends_with("_by_lua_block"));
            let body = loop {
                match tokens.next().expect("a directive ends") {
                    Token::Word(word) => args.push(Arg::Word(Word(word))),
                    Token::Quoted(text) => args.push(Arg::Fixed(Cow::Owned(text))),
                    Token::End => break Body::None,
                    Token::Open if lua => {
                        let mut code = Vec::new();
                        while let Some(Token::Word(word)) = tokens.next_if(|token| *token != Token::Close) {
                            code.push(word);
                        }
                        assert_eq!(tokens.next(), Some(Token::Close));
                        break Body::Lua(Cow::Owned(code.join(" ")));
                    }
                    Token::Open => {
                        let inside = parse(tokens);
                        assert_eq!(tokens.next(), Some(Token::Close));
                        break Body::Block(inside);
                    }
                    Token::Close => panic!("a directive ends with a brace"),
                }
            };
            directives.push(Directive { name: Cow::Owned(name), args, body });
        }
        directives
    }

    fn arg() -> impl Strategy<Value = Arg> {
        prop_oneof![
            "[a-zA-Z0-9./:_*~^-]{1,30}".prop_map(|text| Arg::Word(Word::new(text).unwrap())),
            "[ -~]{0,30}".prop_map(|text| Arg::Fixed(Cow::Owned(text))),
        ]
    }

    fn directive() -> impl Strategy<Value = Directive> {
        let args = || proptest::collection::vec(arg(), 0..4);
        let name = || prop_oneof!["[a-z_]{1,20}", "[ -~]{0,8}"].prop_filter("Lua", |name| !name.contains("_by_lua"));
        let leaf = prop_oneof![
            (name(), args()).prop_map(|(name, args)| Directive { name: Cow::Owned(name), args, body: Body::None }),
            Just(Directive::lua("access_by_lua_block", "berth.access()")),
        ];
        leaf.prop_recursive(3, 24, 5, move |inner| {
            (name(), args(), proptest::collection::vec(inner, 0..5)).prop_map(|(name, args, inside)| Directive {
                name: Cow::Owned(name),
                args,
                body: Body::Block(inside),
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_printed_reads_as_what_was_meant(tree in proptest::collection::vec(directive(), 0..6)) {
            let mut tokens = tokens(&print(&tree)).into_iter().peekable();
            prop_assert_eq!(parse(&mut tokens), tree);
            prop_assert_eq!(tokens.next(), None);
        }

        #[test]
        fn no_text_makes_a_word_that_is_more_than_one(text in "\\PC*|[ -~\\n\\t\\x00]*") {
            if let Ok(word) = Word::new(text.clone()) {
                let printed = print(&[Directive::new("server_name", [word.into()])]);
                let read = tokens(&printed);
                prop_assert_eq!(read, [Token::Word("server_name".into()), Token::Word(text), Token::End]);
            }
        }
    }

    #[test]
    fn what_would_leave_its_place_is_no_word() {
        for bad in ["", "a b", "a;", "{", "}", "\"", "'", "\\", "$host", "#", "a\nb", "a\0", "a\rb", "a\u{85}b"] {
            assert_eq!(Word::new(bad), Err(NotAWord(bad.to_owned())), "{bad:?}");
        }
    }
}
