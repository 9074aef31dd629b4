//! A TOML document read key by key, so that one run finds every mistake and can point at each.
//!
//! serde stops at the first value of a wrong type, and cannot say where a key is missing. A [`Section`] goes on: a bad
//! value is noted in [`Findings`] and the caller carries on with its default; nothing is used once anything was noted.

use super::Finding;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a value's reader answers: the value, or what is accepted instead.
pub(super) type Parsed<T> = Result<T, String>;

/// A value and the place where it stands in the text.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A key and the bytes to which a finding about it points.
#[derive(Clone, Debug)]
pub(super) struct Place {
    key: String,
    span: Range<usize>,
    /// Whether the span is a value worth quoting (not a key, a table header or a whole table).
    quote: bool,
}

impl Place {
    /// The place of a default: no text holds it.
    pub(super) fn nowhere() -> Place {
        Place {
            key: String::new(),
            span: 0..0,
            quote: false,
        }
    }
}

/// Everything that was found wrong or doubtful in one text.
pub(super) struct Findings<'t> {
    file: &'t Path,
    text: &'t str,
    errors: RefCell<Vec<(usize, Finding)>>,
    warnings: RefCell<Vec<(usize, Finding)>>,
}

impl<'t> Findings<'t> {
    pub(super) fn new(file: &'t Path, text: &'t str) -> Self {
        Findings {
            file,
            text,
            errors: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// Notes a mistake.
    pub(super) fn error(&self, place: &Place, what: impl Into<String>) {
        self.errors
            .borrow_mut()
            .push((place.span.start, self.finding(place, what.into())));
    }

    /// Notes something allowed but doubtful.
    pub(super) fn warning(&self, place: &Place, what: impl Into<String>) {
        self.warnings
            .borrow_mut()
            .push((place.span.start, self.finding(place, what.into())));
    }

    /// Notes that the text is no TOML there.
    pub(super) fn syntax(&self, error: &toml::de::Error) {
        // `message` and not `Display`: the latter quotes the source line, and nobody knows what stands there.
        let span = error.span().unwrap_or(0..0);
        self.error(
            &Place {
                key: "TOML".into(),
                span,
                quote: false,
            },
            error.message().trim().replace('\n', "; "),
        );
    }

    /// Errors and warnings in the order of the text.
    pub(super) fn into_sorted(self) -> (Vec<Finding>, Vec<Finding>) {
        let sort = |cell: RefCell<Vec<(usize, Finding)>>| {
            let mut list = cell.into_inner();
            list.sort_by_key(|(offset, _)| *offset);
            list.into_iter().map(|(_, finding)| finding).collect()
        };
        (sort(self.errors), sort(self.warnings))
    }

    fn finding(&self, place: &Place, what: String) -> Finding {
        let before = self.text.get(..place.span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Finding {
            file: self.file.to_path_buf(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: place.key.clone(),
            value: place
                .quote
                .then(|| quoted(self.text.get(place.span.clone()).unwrap_or(""))),
            what,
        }
    }
}

/// One table: each key is asked for once; what nobody asked for is unknown.
pub(super) struct Section<'d, 't> {
    name: String,
    header: Range<usize>,
    entries: BTreeMap<&'d str, (Range<usize>, &'d Spanned<DeValue<'d>>)>,
    known: Vec<&'static str>,
    findings: &'d Findings<'t>,
}

impl<'d, 't> Section<'d, 't> {
    /// The document itself.
    pub(super) fn root(table: &'d DeTable<'d>, findings: &'d Findings<'t>) -> Self {
        Section::new(String::new(), 0..0, table, findings)
    }

    fn new(name: String, header: Range<usize>, table: &'d DeTable<'d>, findings: &'d Findings<'t>) -> Self {
        let entries = table
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), (key.span(), value)))
            .collect();
        Section {
            name,
            header,
            entries,
            known: Vec::new(),
            findings,
        }
    }

    /// Whether a list is not written or has nothing in it. Ask before it is read.
    pub(super) fn lacks(&self, key: &str) -> bool {
        let value = self.entries.get(key).map(|(_, value)| value.get_ref());
        value.is_none_or(|value| value.as_array().is_some_and(|list| list.is_empty()))
    }

    /// The table's own place, for what is missing in it.
    pub(super) fn place(&self) -> Place {
        Place {
            key: self.name.clone(),
            span: self.header.clone(),
            quote: false,
        }
    }

    /// A key's value, when it is there and right.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<Found<T>> {
        let value = self.take(key)?;
        let place = self.value_place(key, value);
        match read(value.get_ref()) {
            Ok(value) => Some(Found { value, place }),
            Err(accepted) => {
                self.findings.error(&place, accepted);
                None
            }
        }
    }

    /// A key's value; that it is missing is an error.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        accepted: &str,
        read: impl FnOnce(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<Found<T>> {
        if !self.entries.contains_key(key) {
            let place = Place {
                key: self.path(key),
                ..self.place()
            };
            self.findings
                .error(&place, format!("is missing; accepted is {accepted}"));
        }
        self.optional(key, read)
    }

    /// Each element of a list; a single value counts as a list of one where `single` says so.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        single: bool,
        read: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Vec<Found<T>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let elements: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
            DeValue::Array(array) => array.iter().collect(),
            _ if single => vec![value],
            _ => {
                self.findings.error(
                    &self.value_place(key, value),
                    "accepted is a list in square brackets",
                );
                return Vec::new();
            }
        };
        elements
            .into_iter()
            .filter_map(|element| {
                let place = self.value_place(key, element);
                match read(element.get_ref()) {
                    Ok(value) => Some(Found { value, place }),
                    Err(accepted) => {
                        self.findings.error(&place, accepted);
                        None
                    }
                }
            })
            .collect()
    }

    /// The table `[key]`, when it is there.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Section<'d, 't>> {
        let (header, value) = self.take_entry(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(self.path(key), header, table, self.findings)),
            _ => {
                let path = self.path(key);
                self.findings.error(
                    &self.value_place(key, value),
                    format!("accepted is a table, [{path}]"),
                );
                None
            }
        }
    }

    /// The tables `[[key]]`, in the order of the text.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Section<'d, 't>> {
        let Some((header, value)) = self.take_entry(key) else {
            return Vec::new();
        };
        let wrong = |span: Range<usize>| {
            let place = Place {
                key: self.path(key),
                span,
                quote: false,
            };
            self.findings.error(
                &place,
                format!("accepted are tables, each under its own [[{}]]", self.path(key)),
            );
        };
        let DeValue::Array(array) = value.get_ref() else {
            wrong(header);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in array.iter() {
            match element.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section::new(self.path(key), element.span(), table, self.findings));
                }
                _ => wrong(element.span()),
            }
        }
        sections
    }

    /// Reports every key that nobody asked for. Its value is never shown: it may be a secret in the wrong place.
    pub(super) fn finish(self) {
        for (key, (span, _)) in &self.entries {
            let place = Place {
                key: self.path(key),
                span: span.clone(),
                quote: false,
            };
            let hint = match nearest(key, &self.known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("accepted here: {}", self.known.join(", ")),
            };
            self.findings.error(&place, format!("unknown key; {hint}"));
        }
    }

    fn take(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.take_entry(key).map(|(_, value)| value)
    }

    fn take_entry(&mut self, key: &'static str) -> Option<(Range<usize>, &'d Spanned<DeValue<'d>>)> {
        self.known.push(key);
        self.entries.remove(key)
    }

    fn value_place(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Place {
        let quote = !matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
        Place {
            key: self.path(key),
            span: value.span(),
            quote,
        }
    }

    fn path(&self, key: &str) -> String {
        match self.name.as_str() {
            "" => key.to_string(),
            name => format!("{name}.{key}"),
        }
    }
}

/// The known word that differs least, if it is close enough to be a slip of the finger; else one that begins alike.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).clamp(1, 3);
    let slip = known
        .iter()
        .map(|candidate| (edits(&word, candidate), *candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min()
        .map(|(_, candidate)| candidate);
    let begins_alike = |candidate: &&&str| {
        candidate.len().min(word.len()) >= 3
            && (word.starts_with(**candidate) || candidate.starts_with(&word))
    };
    slip.or_else(|| known.iter().find(begins_alike).copied())
}

/// Levenshtein's distance in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A value as it stands in the text, shortened and on one line.
fn quoted(source: &str) -> String {
    const LONGEST: usize = 60;
    let line: String = source
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST + 1)
        .collect();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_known_word() {
        let known = ["address", "protocol", "tls", "passwords_in_clear"];
        let check =
            |word: &str, expected: Option<&str>| assert_eq!(nearest(word, &known), expected, "{word}");
        check("adress", Some("address"));
        check("Protocol", Some("protocol"));
        check("tsl", None);
        check("tl", Some("tls"));
        check("password_in_clear", Some("passwords_in_clear"));
        check("certificate", None);
        check("addr", Some("address"));
        check("protocol_name", Some("protocol"));
        check("pass", Some("passwords_in_clear"));
    }
}
