//! JSON as Lua values.

use mlua::{Lua, Table, Value};

use super::{JsonSettings, MAX_DEPTH};
use crate::context::Context;
use crate::native::{Args, Fault, Outcome, error, one};
use crate::number::prefix;

/// Tokens between two looks whether the script is to end.
const POLL: usize = 1_024;

pub(super) fn decode(lua: &Lua, context: &Context, args: Args) -> Outcome {
    if args.len() != 1 {
        return Err(Fault::Argument(1, "expected 1 argument".into()));
    }
    let text = args.string(lua, 1)?;
    let text = text.as_bytes();
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return error("JSON parser does not support UTF-16 or UTF-32");
    }
    let settings = context.run().json;
    let mut decoder = Decoder {
        text: &text,
        at: 0,
        token_at: 0,
        count: 0,
        settings,
        context,
    };
    one(decoder.document(lua)?)
}

enum Token {
    ObjectBegin,
    ObjectEnd,
    ListBegin,
    ListEnd,
    Text(Vec<u8>),
    Number(f64),
    Truth(bool),
    Null,
    Colon,
    Comma,
    End,
    Wrong(&'static str),
}

impl Token {
    /// As errors call it.
    fn name(&self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ListBegin => "T_ARR_BEGIN",
            Self::ListEnd => "T_ARR_END",
            Self::Text(_) => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Truth(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::End => "T_END",
            Self::Wrong(what) => what,
        }
    }
}

/// A table that is being filled.
enum Open {
    Object { table: Table, key: Vec<u8> },
    List { table: Table, next: usize },
}

/// Open tables are on a list of their own, not on the thread's stack.
struct Decoder<'a> {
    text: &'a [u8],
    at: usize,
    /// Where the last token begins, or what is wrong in it.
    token_at: usize,
    count: usize,
    settings: JsonSettings,
    context: &'a Context,
}

impl Decoder<'_> {
    fn document(&mut self, lua: &Lua) -> Result<Value, Fault> {
        let mut open: Vec<Open> = Vec::new();
        let mut token = self.next()?;
        loop {
            let value = match token {
                Token::Text(text) => Value::String(lua.create_string(&text)?),
                Token::Number(number) => Value::Number(number),
                Token::Truth(truth) => Value::Boolean(truth),
                Token::Null => Value::NULL,
                Token::ObjectBegin => {
                    self.descend(open.len() + 1)?;
                    let table = lua.create_table()?;
                    match self.next()? {
                        Token::ObjectEnd => Value::Table(table),
                        first => {
                            let key = self.key(first)?;
                            open.push(Open::Object { table, key });
                            token = self.next()?;
                            continue;
                        }
                    }
                }
                Token::ListBegin => {
                    self.descend(open.len() + 1)?;
                    let table = lua.create_table()?;
                    match self.next()? {
                        Token::ListEnd => Value::Table(table),
                        first => {
                            open.push(Open::List { table, next: 1 });
                            token = first;
                            continue;
                        }
                    }
                }
                other => return self.unexpected("value", &other),
            };
            match self.attach(lua, &mut open, value)? {
                Ok(next) => token = next,
                Err(whole) => return Ok(whole),
            }
        }
    }

    /// Puts a value where it belongs. Returns the token that the next value
    /// begins with, or (the inner error) the whole document.
    fn attach(
        &mut self,
        lua: &Lua,
        open: &mut Vec<Open>,
        mut value: Value,
    ) -> Result<Result<Token, Value>, Fault> {
        loop {
            let next = match open.last_mut() {
                None => {
                    return match self.next()? {
                        Token::End => Ok(Err(value)),
                        other => self.unexpected("the end", &other),
                    };
                }
                Some(Open::Object { table, key }) => {
                    table.raw_set(lua.create_string(&*key)?, value)?;
                    match self.next()? {
                        Token::ObjectEnd => None,
                        Token::Comma => {
                            let token = self.next()?;
                            *key = self.key(token)?;
                            Some(self.next()?)
                        }
                        other => return self.unexpected("comma or object end", &other),
                    }
                }
                Some(Open::List { table, next }) => {
                    table.raw_set(*next, value)?;
                    *next += 1;
                    match self.next()? {
                        Token::ListEnd => None,
                        Token::Comma => Some(self.next()?),
                        other => return self.unexpected("comma or array end", &other),
                    }
                }
            };
            match (next, open.pop()) {
                (Some(token), Some(innermost)) => {
                    open.push(innermost);
                    return Ok(Ok(token));
                }
                (_, Some(Open::Object { table, .. } | Open::List { table, .. })) => {
                    value = Value::Table(table)
                }
                (_, None) => value = Value::Nil,
            }
        }
    }

    /// The key that a token is, and its colon.
    fn key(&mut self, token: Token) -> Result<Vec<u8>, Fault> {
        let Token::Text(key) = token else {
            return self.unexpected("object key string", &token);
        };
        match self.next()? {
            Token::Colon => Ok(key),
            other => self.unexpected("colon", &other),
        }
    }

    fn descend(&mut self, depth: usize) -> Result<(), Fault> {
        let most = self.settings.decode_depth.min(MAX_DEPTH);
        if i64::try_from(depth).is_ok_and(|depth| depth <= most) {
            return Ok(());
        }
        error(format!(
            "Found too many nested data structures ({depth}) at character {}",
            self.at
        ))
    }

    fn unexpected<T>(&self, expected: &str, found: &Token) -> Result<T, Fault> {
        let (found, at) = (found.name(), self.token_at + 1);
        error(format!(
            "Expected {expected} but found {found} at character {at}"
        ))
    }

    /// The byte at a place; 0 ends the text, as in C.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn wrong(&mut self, what: &'static str) -> Token {
        self.token_at = self.at;
        Token::Wrong(what)
    }

    fn begins(&self, word: &[u8]) -> bool {
        self.text[self.at.min(self.text.len())..].starts_with(word)
    }

    fn next(&mut self) -> Result<Token, Fault> {
        self.count += 1;
        if self.count.is_multiple_of(POLL) && self.context.should_end() {
            return Err(Fault::Ended);
        }
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.token_at = self.at;
        let single = match self.byte(self.at) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ListBegin,
            b']' => Token::ListEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            0 => return Ok(Token::End),
            b'"' => return Ok(self.string()),
            b'-' | b'0'..=b'9' => return Ok(self.number()),
            _ => return Ok(self.word()),
        };
        self.at += 1;
        Ok(single)
    }

    fn word(&mut self) -> Token {
        for (word, token) in [
            (&b"true"[..], Token::Truth(true)),
            (b"false", Token::Truth(false)),
            (b"null", Token::Null),
        ] {
            if self.begins(word) {
                self.at += word.len();
                return token;
            }
        }
        let number = matches!(self.byte(self.at), b'i' | b'I' | b'n' | b'N' | b'+');
        if number && self.settings.decode_invalid && self.is_invalid_number() {
            return self.number();
        }
        self.wrong("invalid token")
    }

    fn number(&mut self) -> Token {
        if !self.settings.decode_invalid && self.is_invalid_number() {
            return self.wrong("invalid number");
        }
        match prefix(&self.text[self.at..]) {
            Some((number, taken)) => {
                self.at += taken;
                Token::Number(number)
            }
            None => self.wrong("invalid number"),
        }
    }

    /// What C reads as a number, but JSON does not have.
    fn is_invalid_number(&self) -> bool {
        if self.byte(self.at) == b'+' {
            return true;
        }
        let at = self.at + usize::from(self.byte(self.at) == b'-');
        match self.byte(at) {
            b'0' => matches!(self.byte(at + 1), b'x' | b'X' | b'0'..=b'9'),
            0..=b'9' => false,
            _ => {
                let word = self.text.get(at..at + 3).unwrap_or_default();
                word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")
            }
        }
    }

    fn string(&mut self) -> Token {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let rest = &self.text[self.at.min(self.text.len())..];
            let plain = rest
                .iter()
                .take_while(|byte| !matches!(byte, b'"' | b'\\' | 0))
                .count();
            text.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.byte(self.at) {
                b'"' => {
                    self.at += 1;
                    return Token::Text(text);
                }
                b'\\' => {}
                _ => return self.wrong("unexpected end of string"),
            }
            let escaped = match self.byte(self.at + 1) {
                byte @ (b'"' | b'\\' | b'/') => byte,
                b'b' => 0x08,
                b't' => b'\t',
                b'n' => b'\n',
                b'f' => 0x0c,
                b'r' => b'\r',
                b'u' => match self.unicode() {
                    Some((point, taken)) => {
                        push_point(&mut text, point);
                        self.at += taken;
                        continue;
                    }
                    None => return self.wrong("invalid unicode escape code"),
                },
                _ => return self.wrong("invalid escape code"),
            };
            text.push(escaped);
            self.at += 2;
        }
    }

    /// Four hexadecimal digits.
    fn unit(&self, at: usize) -> Option<u32> {
        let mut value = 0;
        for index in at..at + 4 {
            value = value * 16 + char::from(self.byte(index)).to_digit(16)?;
        }
        Some(value)
    }

    /// The code point of `\uXXXX`, or of a pair of them, and its length.
    fn unicode(&self) -> Option<(u32, usize)> {
        let first = self.unit(self.at + 2)?;
        match first {
            0xD800..=0xDBFF
                if self.byte(self.at + 6) == b'\\' && self.byte(self.at + 7) == b'u' =>
            {
                let second = self.unit(self.at + 8)?;
                let low = (0xDC00..=0xDFFF).contains(&second);
                low.then_some((0x1_0000 + ((first & 0x3FF) << 10) + (second & 0x3FF), 12))
            }
            0xD800..=0xDFFF => None,
            _ => Some((first, 6)),
        }
    }
}

fn push_point(text: &mut Vec<u8>, point: u32) {
    if let Some(point) = char::from_u32(point) {
        text.extend_from_slice(point.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
