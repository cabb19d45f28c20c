//! XML as payment messages need it, and nothing more: one document in UTF-8 and one namespace, no document types, no
//! entities, no processing instructions; bounded in bytes, elements and depth.
//!
//! Entities are what makes XML dangerous to read: external ones fetch files (XXE), nested ones grow without end
//! ("billion laughs"). Here a document type is refused at its first byte, and of references only the five predefined
//! ones and characters by number are known; so there is nothing to expand.

use std::fmt::Write as _;

use quick_xml::XmlVersion;
use quick_xml::escape::escape;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;

use crate::fault::{Fault, FaultCode, Faults, Scope, shown};

/// Most bytes of a message: 10,000 transfers take about half of it.
pub const BYTES_MAX: usize = 32 << 20;
/// Most elements: 10,000 transfers with sixty each. Bounds the memory of the tree (some 120 bytes an element).
pub const ELEMENTS_MAX: usize = 600_000;
/// Deepest nesting. The schemas here have no place deeper than 14; it bounds the recursion of whoever walks the tree.
pub const DEPTH_MAX: usize = 24;

/// Most attributes of an element: the schemas know one, a root names some namespaces. Whether one is there twice is
/// found by comparing each with all before it, so their number must be small.
const ATTRIBUTES_MAX: usize = 32;
/// Most characters of what the XML reader says about a fault: it repeats names, which may be of any length.
const DETAIL_CHARS_MAX: usize = 200;

/// Where attributes such as `schemaLocation` belong, which name a schema and say nothing about the payment.
const SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// An element with what it contains: a text or children. Prefixes are resolved and gone.
#[derive(Clone, PartialEq, Eq)]
pub struct Element {
    /// Local name.
    pub name: Box<str>,
    /// The attribute `Ccy`, the only one that the schemas here have.
    pub currency: Option<Box<str>>,
    /// Names of attributes that no schema here has.
    pub foreign: Vec<Box<str>>,
    /// Text directly within it, references resolved.
    pub text: String,
    /// Elements within it, in order.
    pub children: Vec<Element>,
}

impl Element {
    /// An empty element.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            currency: None,
            foreign: Vec::new(),
            text: String::new(),
            children: Vec::new(),
        }
    }

    /// An element with a text.
    pub fn leaf(name: &str, text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::new(name) }
    }

    /// An element with children.
    pub fn with(name: &str, children: Vec<Self>) -> Self {
        Self { children, ..Self::new(name) }
    }

    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| *child.name == *name)
    }

    /// The children of that name, in order.
    pub fn each<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| *child.name == *name)
    }

    /// How many elements of that name are within it, at whatever depth.
    pub(crate) fn count(&self, name: &str) -> usize {
        let within: usize = self.children.iter().map(|child| child.count(name)).sum();
        within + self.each(name).count()
    }

    /// How many elements it is, with those within it.
    pub(crate) fn size(&self) -> usize {
        1 + self.children.iter().map(Self::size).sum::<usize>()
    }

    /// The text at the end of a path of names.
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        let end = path.iter().try_fold(self, |element, name| element.child(name))?;
        Some(&end.text)
    }
}

/// Names only: messages carry personal data, and whatever prints a tree does so into a log.
impl std::fmt::Debug for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{}>", self.name)?;
        if self.children.is_empty() { Ok(()) } else { f.debug_list().entries(&self.children).finish() }
    }
}

/// A document: the namespace, which says which message it is, and the root element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The namespace that all elements are of.
    pub namespace: String,
    /// The root element.
    pub root: Element,
}

/// Reads a document.
pub fn parse(bytes: &[u8]) -> Result<Document, Faults> {
    if bytes.len() > BYTES_MAX {
        let detail = format!("{} bytes, at most {BYTES_MAX} are read", bytes.len());
        return Err(fault(FaultCode::XmlTooLarge, detail));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        fault(FaultCode::XmlEncoding, format!("byte {} is not UTF-8", error.valid_up_to()))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(at) = text.find(|c| !is_allowed(c)) {
        return Err(fault(
            FaultCode::XmlMalformed,
            format!("a character that XML does not allow at byte {at}"),
        ));
    }
    Parser::default().run(text)
}

/// Characters of XML 1.0 (production `Char`).
pub(crate) fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

fn fault(code: FaultCode, detail: String) -> Faults {
    Fault { path: "/".into(), code, detail, scope: Scope::Message }.into()
}

fn malformed(error: impl std::fmt::Display) -> Faults {
    fault(FaultCode::XmlMalformed, error.to_string().chars().take(DETAIL_CHARS_MAX).collect())
}

/// What has been read so far.
#[derive(Default)]
struct Parser {
    namespace: Option<String>,
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Parser {
    fn run(mut self, text: &str) -> Result<Document, Faults> {
        let mut reader = NsReader::from_str(text);
        reader.config_mut().check_comments = true;
        let mut first = true;
        loop {
            let (resolved, event) = reader.read_resolved_event().map_err(malformed)?;
            match event {
                Event::Start(start) => {
                    let element = self.begin(&resolved, &start)?;
                    self.open.push(element);
                }
                Event::Empty(start) => {
                    let element = self.begin(&resolved, &start)?;
                    self.close(element);
                }
                Event::End(_) => {
                    let element = self.open.pop().ok_or_else(|| malformed("an end tag too many"))?;
                    self.close(element);
                }
                Event::Text(text) => self.text(&text.xml10_content())?,
                Event::CData(text) => self.text(&text.xml10_content())?,
                Event::GeneralRef(reference) => {
                    let c = resolve(&reference)?;
                    self.text(c.encode_utf8(&mut [0; 4]))?;
                }
                Event::Decl(declaration) if first => check_declaration(&declaration)?,
                Event::Decl(_) => return Err(malformed("an XML declaration that is not at the beginning")),
                Event::Comment(_) => {}
                Event::DocType(_) => {
                    return Err(fault(FaultCode::XmlForbidden, "a document type".into()));
                }
                Event::PI(_) => {
                    return Err(fault(FaultCode::XmlForbidden, "a processing instruction".into()));
                }
                Event::Eof => break,
            }
            first = false;
        }
        match (self.root, self.namespace) {
            (Some(root), Some(namespace)) if self.open.is_empty() => Ok(Document { namespace, root }),
            _ => Err(malformed("the document ends before its root element does")),
        }
    }

    fn begin(&mut self, resolved: &ResolveResult<'_>, start: &BytesStart<'_>) -> Result<Element, Faults> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err(fault(FaultCode::XmlTooLarge, format!("more than {ELEMENTS_MAX} elements")));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(fault(FaultCode::XmlTooLarge, format!("elements nest deeper than {DEPTH_MAX}")));
        }
        if self.root.is_some() {
            return Err(malformed("a second root element"));
        }
        let local = start.local_name();
        let name = local.into_inner();
        let ResolveResult::Bound(Namespace(namespace)) = resolved else {
            let detail = format!("element {} has no namespace", shown(name));
            return Err(fault(FaultCode::MessageUnexpected, detail));
        };
        match &self.namespace {
            None => self.namespace = Some((*namespace).to_owned()),
            Some(first) if first == namespace => {}
            Some(_) => {
                let detail = format!("element {} is of another namespace than the document", shown(name));
                return Err(fault(FaultCode::MessageUnexpected, detail));
            }
        }
        let mut element = Element::new(name);
        for (n, attribute) in start.attributes().enumerate() {
            if n >= ATTRIBUTES_MAX {
                let detail = format!("more than {ATTRIBUTES_MAX} attributes");
                return Err(fault(FaultCode::XmlTooLarge, detail));
            }
            let attribute = attribute.map_err(malformed)?;
            let key = attribute.key.into_inner();
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(malformed)?;
            if let Some(c) = value.chars().find(|c| !is_allowed(*c) || *c == '<') {
                return Err(malformed(format!("character {:#x} in an attribute", u32::from(c))));
            }
            let harmless = key == "xmlns"
                || key.starts_with("xmlns:")
                || self.open.is_empty() && names_a_schema(key, start);
            if key == "Ccy" {
                element.currency = Some(value.as_ref().into());
            } else if !harmless {
                element.foreign.push(key.into());
            }
        }
        Ok(element)
    }

    fn close(&mut self, element: Element) {
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Faults> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.chars().all(char::is_whitespace) => {}
            None => return Err(malformed("text outside the root element")),
        }
        Ok(())
    }
}

/// True for attributes like `xsi:schemaLocation`, whose prefix the root itself binds to the schema namespace.
fn names_a_schema(key: &str, root: &BytesStart<'_>) -> bool {
    let Some((prefix, _)) = key.split_once(':') else { return false };
    let declaration = format!("xmlns:{prefix}");
    root.attributes()
        .with_checks(false)
        .flatten()
        .any(|bound| bound.key.into_inner() == declaration && bound.value == SCHEMA_INSTANCE)
}

fn check_declaration(declaration: &BytesDecl<'_>) -> Result<(), Faults> {
    let version = declaration.version().map_err(malformed)?;
    if version != "1.0" {
        return Err(malformed(format!("XML version {}", shown(&version))));
    }
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") => Ok(()),
        Some(Ok(name)) => {
            Err(fault(FaultCode::XmlEncoding, format!("the encoding is declared as {}", shown(&name))))
        }
        Some(Err(error)) => Err(malformed(error)),
    }
}

/// The character a reference stands for: one of the five that XML predefines, or one by number.
fn resolve(reference: &BytesRef<'_>) -> Result<char, Faults> {
    if let Some(c) = reference.resolve_char_ref().map_err(malformed)? {
        return if is_allowed(c) {
            Ok(c)
        } else {
            Err(malformed(format!("a reference to character {:#x}", u32::from(c))))
        };
    }
    match &**reference {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        other => Err(fault(FaultCode::XmlForbidden, format!("the entity {}", shown(other)))),
    }
}

/// Writes a document, without any space between its elements.
pub fn write(document: &Document) -> Vec<u8> {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    write_element(&document.root, Some(&document.namespace), &mut out);
    out.push('\n');
    out.into_bytes()
}

fn write_element(element: &Element, namespace: Option<&str>, out: &mut String) {
    let written = match (namespace, &element.currency) {
        (Some(namespace), _) => write!(out, "<{} xmlns=\"{}\">", element.name, escape(namespace)),
        (None, Some(currency)) => write!(out, "<{} Ccy=\"{}\">", element.name, escape(&**currency)),
        (None, None) => write!(out, "<{}>", element.name),
    };
    written.expect("a string takes whatever is written to it");
    // A carriage return that stood there as such would be read as a line feed.
    out.push_str(&escape(&*element.text).replace('\r', "&#13;"));
    for child in &element.children {
        write_element(child, None, out);
    }
    write!(out, "</{}>", element.name).expect("a string takes whatever is written to it");
}
