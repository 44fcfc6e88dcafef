//! The embedded shaders and what the host must know of each: entries, bindings, uniform fields, overrides,
//! workgroup memory. It is read from the WGSL itself, so there is one source of layouts for Rust and Python.
//!
//! Only the style of our own files is understood: top-level declarations on one line each, a struct's field
//! and a function's first line on lines of their own, closing braces of both in the first column. A test
//! compares the outcome with naga's for every shader.

use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::OnceLock;

/// (name, source), sorted by name.
static SHADERS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

/// One shader file with the shared functions that it uses.
#[derive(Debug)]
pub struct Shader {
    /// `lstm/step`
    pub name: &'static str,
    /// the WGSL
    pub source: &'static str,
    /// its compute entry points
    pub entries: Vec<Entry>,
    /// (name, type) of its overridable constants
    pub overrides: Vec<(String, String)>,
}

/// A compute entry point.
#[derive(Debug)]
pub struct Entry {
    /// the function's name
    pub name: String,
    /// threads in a workgroup
    pub workgroup: [u32; 3],
    /// the bindings that it uses, by number; the uniform, if any, is number 0
    pub bindings: Vec<Binding>,
    /// bytes of workgroup memory
    pub workgroup_bytes: u32,
    /// at which byte of the uniform the first workgroup's number is, where the entry adds one to `group_number`
    pub first_group: Option<usize>,
    /// how many workgroups the host starts, in words
    pub grid: String,
    /// how many loop trips an invocation makes, in words
    pub trips: String,
}

/// A bound buffer.
#[derive(Clone, Debug)]
pub struct Binding {
    /// `@binding(number)`
    pub number: u32,
    /// the variable
    pub name: String,
    /// how it is bound
    pub access: Access,
    /// the WGSL type
    pub ty: String,
    /// name, type and byte offset of each field of a uniform
    pub fields: Vec<(String, String, u32)>,
    /// bytes of a uniform
    pub size: u32,
}

/// How a buffer is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// a small record of parameters
    Uniform,
    /// storage, only read
    Read,
    /// storage, read and written
    ReadWrite,
}

impl Access {
    /// WebGPU's word for it.
    pub fn webgpu(self) -> &'static str {
        match self {
            Access::Uniform => "uniform",
            Access::Read => "read-only-storage",
            Access::ReadWrite => "storage",
        }
    }
}

impl Entry {
    /// The storage bindings, in order.
    pub fn storage(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.iter().filter(|b| b.access != Access::Uniform)
    }

    /// Bytes of the uniform record; 0 without one.
    pub fn uniform_size(&self) -> u32 {
        self.bindings.iter().find(|b| b.access == Access::Uniform).map_or(0, |b| b.size)
    }
}

impl Shader {
    /// Everything but the source, as JSON.
    pub fn manifest(&self) -> String {
        let mut out = String::from("{\"entries\": {");
        for (i, entry) in self.entries.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let _ = write!(
                out,
                "{comma}\"{}\": {{\"workgroup_size\": {:?}, \"workgroup_bytes\": {}, \"grid\": \"{}\", \"trips\": \"{}\", \
                 \"bindings\": [",
                entry.name,
                entry.workgroup,
                entry.workgroup_bytes,
                escape(&entry.grid),
                escape(&entry.trips),
            );
            for (j, b) in entry.bindings.iter().enumerate() {
                let comma = if j == 0 { "" } else { ", " };
                let _ = write!(
                    out,
                    "{comma}{{\"binding\": {}, \"name\": \"{}\", \"type\": \"{}\", \"wgsl\": \"{}\"",
                    b.number,
                    b.name,
                    b.access.webgpu(),
                    b.ty
                );
                if b.access == Access::Uniform {
                    let _ = write!(out, ", \"size\": {}, \"fields\": [", b.size);
                    for (k, (name, ty, offset)) in b.fields.iter().enumerate() {
                        let comma = if k == 0 { "" } else { ", " };
                        let _ = write!(out, "{comma}[\"{name}\", \"{ty}\", {offset}]");
                    }
                    out.push(']');
                }
                out.push('}');
            }
            out += "]}";
        }
        out += "}, \"overrides\": {";
        for (i, (name, ty)) in self.overrides.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let _ = write!(out, "{comma}\"{name}\": \"{ty}\"");
        }
        out += "}}";
        out
    }
}

/// Every embedded shader.
pub fn shaders() -> Result<&'static [Shader]> {
    static PARSED: OnceLock<std::result::Result<Vec<Shader>, String>> = OnceLock::new();
    let parsed = PARSED.get_or_init(|| SHADERS.iter().map(|(name, source)| parse(name, source)).collect());
    parsed.as_deref().map_err(|message| Error::internal(message.clone()))
}

/// The shader and entry of these names.
pub(super) fn find(shader: &str, entry: &str) -> Result<(&'static Shader, &'static Entry)> {
    shaders()?
        .iter()
        .find(|s| s.name == shader)
        .and_then(|s| s.entries.iter().find(|e| e.name == entry).map(|e| (s, e)))
        .ok_or_else(|| Error::internal(format!("no shader entry {shader}:{entry}")))
}

type Parsed<T> = std::result::Result<T, String>;

/// A function, before it is known which are entries.
struct Function {
    workgroup: Option<[u32; 3]>,
    words: BTreeSet<String>,
    adds_first_group: bool,
    grid: String,
    trips: String,
}

fn parse(name: &'static str, source: &'static str) -> Parsed<Shader> {
    let fail = |line: &str| format!("shader {name}: cannot read `{line}`");
    let mut structs: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut constants: BTreeMap<String, u32> = BTreeMap::new();
    let mut globals: Vec<Binding> = Vec::new();
    let mut shared: Vec<(String, u32)> = Vec::new();
    let mut overrides = Vec::new();
    let mut functions: Vec<(String, Function)> = Vec::new();
    let (mut grid, mut trips, mut workgroup) = (String::new(), String::new(), None);

    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let code = line.split("//").next().unwrap_or("").trim();
        if let Some(text) = line.strip_prefix("// grid:") {
            grid = text.trim().to_string();
        } else if let Some(text) = line.strip_prefix("// trips:") {
            trips = text.trim().to_string();
        } else if let Some(rest) = code.strip_prefix("struct ") {
            let title = rest.trim_end_matches('{').trim().to_string();
            let mut fields = Vec::new();
            for field in lines.by_ref().take_while(|l| !l.starts_with('}')) {
                let field = field.split("//").next().unwrap_or("").trim().trim_end_matches(',');
                if let Some((name, ty)) = field.split_once(':') {
                    fields.push((name.trim().to_string(), ty.trim().to_string()));
                }
            }
            structs.insert(title, fields);
        } else if let Some(rest) = code.strip_prefix("const ") {
            if let Some((title, value)) = rest.trim_end_matches(';').split_once('=') {
                let title = title.split(':').next().unwrap_or("").trim().to_string();
                if let Some(value) = product(value, &constants) {
                    constants.insert(title, value);
                }
            }
        } else if let Some(rest) = code.strip_prefix("override ") {
            let declared = rest.trim_end_matches(';').split('=').next().unwrap_or("");
            let (title, ty) = declared.split_once(':').ok_or_else(|| fail(line))?;
            overrides.push((title.trim().to_string(), ty.trim().to_string()));
        } else if let Some(rest) = code.strip_prefix("@group(0) @binding(") {
            globals.push(binding(rest).ok_or_else(|| fail(line))?);
        } else if let Some(rest) = code.strip_prefix("var<workgroup> ") {
            let (title, ty) = rest.trim_end_matches(';').split_once(':').ok_or_else(|| fail(line))?;
            let bytes = size_of(ty.trim(), &constants).ok_or_else(|| fail(line))?;
            shared.push((title.trim().to_string(), bytes));
        } else if let Some(rest) = code.strip_prefix("@compute @workgroup_size(") {
            let mut size = [1; 3];
            for (slot, text) in size.iter_mut().zip(rest.trim_end_matches(')').split(',')) {
                *slot = product(text, &constants).ok_or_else(|| fail(line))?;
            }
            workgroup = Some(size);
        } else if let Some(rest) = code.strip_prefix("fn ") {
            let title = rest.split('(').next().unwrap_or("").trim().to_string();
            let mut text = code.to_string();
            if !code.ends_with('}') {
                for body in lines.by_ref().take_while(|l| !l.starts_with('}')) {
                    text.push('\n');
                    text += body.split("//").next().unwrap_or("");
                }
            }
            let words = words(&text);
            let function = Function {
                workgroup: workgroup.take(),
                words,
                adds_first_group: text.contains(".first_group"),
                grid: std::mem::take(&mut grid),
                trips: std::mem::take(&mut trips),
            };
            functions.push((title, function));
        } else if !code.is_empty() {
            return Err(fail(line));
        }
    }
    for global in globals.iter_mut().filter(|g| g.access == Access::Uniform) {
        let fields = structs.get(&global.ty).ok_or_else(|| format!("shader {name}: no struct {}", global.ty))?;
        for (field, ty) in fields {
            if !matches!(ty.as_str(), "u32" | "i32" | "f32") {
                return Err(format!("shader {name}: uniform field {field} is not a 4-byte scalar"));
            }
            global.fields.push((field.clone(), ty.clone(), global.size));
            global.size += 4;
        }
    }

    let mut entries = Vec::new();
    for (title, function) in &functions {
        let Some(workgroup) = function.workgroup else { continue };
        let words = reachable(function, &functions);
        let mut bindings: Vec<Binding> = globals.iter().filter(|g| words.contains(&g.name)).cloned().collect();
        bindings.sort_by_key(|b| b.number);
        let mut fields = bindings.iter().flat_map(|b| &b.fields);
        let first_group = fields.find(|(field, ..)| field == "first_group").map(|&(.., offset)| offset as usize);
        entries.push(Entry {
            name: title.clone(),
            workgroup,
            bindings,
            first_group: first_group.filter(|_| function.adds_first_group),
            workgroup_bytes: shared.iter().filter(|(name, _)| words.contains(name)).map(|(_, bytes)| bytes).sum(),
            grid: function.grid.clone(),
            trips: function.trips.clone(),
        });
    }
    Ok(Shader { name, source, entries, overrides })
}

/// The words of a function's text, less those that it declares itself, and less the names of components: neither
/// a parameter `x` nor `v.x` is the global `x`.
fn words(text: &str) -> BTreeSet<String> {
    let (mut words, mut own) = (BTreeSet::new(), BTreeSet::new());
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut before, mut after_dot) = ("", false);
    for (at, part) in text.split_inclusive(|c: char| !is_word(c)).scan(0, |at, part| {
        *at += part.len();
        Some((*at, part))
    }) {
        let word = part.trim_end_matches(|c: char| !is_word(c));
        if word.is_empty() {
            continue;
        }
        if !after_dot {
            words.insert(word.to_string());
        }
        after_dot = part.ends_with('.');
        if matches!(before, "let" | "var") || part.ends_with(':') || text[at..].starts_with(':') {
            own.insert(word.to_string());
        }
        before = word;
    }
    words.retain(|word| !own.contains(word));
    words
}

/// Every word in `start` and in the functions that it calls, directly or not.
fn reachable(start: &Function, functions: &[(String, Function)]) -> BTreeSet<String> {
    let mut words = start.words.clone();
    loop {
        let before = words.len();
        for (name, function) in functions {
            if words.contains(name) {
                words.extend(function.words.iter().cloned());
            }
        }
        if words.len() == before {
            return words;
        }
    }
}

/// `1) var<storage, read> x: array<f32>;`
fn binding(rest: &str) -> Option<Binding> {
    let (number, rest) = rest.split_once(')')?;
    let (space, rest) = rest.trim().strip_prefix("var<")?.split_once('>')?;
    let (name, ty) = rest.trim_end_matches(';').split_once(':')?;
    let access = match space {
        "uniform" => Access::Uniform,
        "storage, read" => Access::Read,
        "storage, read_write" => Access::ReadWrite,
        _ => return None,
    };
    Some(Binding {
        number: number.parse().ok()?,
        name: name.trim().to_string(),
        access,
        ty: ty.trim().to_string(),
        fields: Vec::new(),
        size: 0,
    })
}

/// `16u * WIDTH`
fn product(text: &str, constants: &BTreeMap<String, u32>) -> Option<u32> {
    text.split('*').try_fold(1u32, |product, factor| {
        let factor = factor.trim();
        let value = constants.get(factor).copied().or_else(|| factor.trim_end_matches('u').parse().ok())?;
        product.checked_mul(value)
    })
}

/// Bytes of `f32`, `vec4<f32>` or an array of them.
fn size_of(ty: &str, constants: &BTreeMap<String, u32>) -> Option<u32> {
    if let Some(inner) = ty.strip_prefix("array<").and_then(|t| t.strip_suffix('>')) {
        let (element, count) = inner.rsplit_once(',')?;
        return size_of(element.trim(), constants)?.checked_mul(product(count, constants)?);
    }
    match ty {
        "f32" | "u32" | "i32" => Some(4),
        "vec4<f32>" | "vec4<u32>" => Some(16),
        _ => None,
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use naga::proc::{Layouter, TypeResolution};
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    use naga::{AddressSpace, StorageAccess};

    // What we read from the text is what naga reads, within the limits that every adapter has.
    #[test]
    fn every_shader_is_valid_and_read_right() {
        let _ = TypeResolution::Handle;
        for shader in shaders().unwrap() {
            let module = naga::front::wgsl::parse_str(shader.source)
                .unwrap_or_else(|e| panic!("{}: {}", shader.name, e.emit_to_string(shader.source)));
            let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
                .validate(&module)
                .unwrap_or_else(|e| panic!("{}: {e:?}", shader.name));
            let mut layouts = Layouter::default();
            layouts.update(module.to_ctx()).unwrap();
            assert_eq!(module.entry_points.len(), shader.entries.len(), "{}", shader.name);
            for (i, point) in module.entry_points.iter().enumerate() {
                let entry = shader.entries.iter().find(|e| e.name == point.name).unwrap();
                let at = format!("{}:{}", shader.name, entry.name);
                assert_eq!(point.workgroup_size, entry.workgroup, "{at}");
                assert!(entry.workgroup.iter().product::<u32>() <= 256, "{at}");
                assert!(!entry.grid.is_empty() && !entry.trips.is_empty(), "{at}: no grid or trips");
                let (mut bytes, mut bindings) = (0, Vec::new());
                for (handle, global) in module.global_variables.iter() {
                    if info.get_entry_point(i)[handle].is_empty() {
                        continue;
                    }
                    let size = layouts[global.ty].size;
                    let access = match global.space {
                        AddressSpace::WorkGroup => {
                            bytes += size;
                            continue;
                        }
                        AddressSpace::Uniform => Access::Uniform,
                        AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Access::ReadWrite,
                        AddressSpace::Storage { .. } => Access::Read,
                        space => panic!("{at}: {space:?}"),
                    };
                    let uniform = if access == Access::Uniform { size } else { 0 };
                    bindings.push((global.binding.unwrap().binding, access, uniform));
                }
                bindings.sort_by_key(|b| b.0);
                let ours: Vec<_> = entry.bindings.iter().map(|b| (b.number, b.access, b.size)).collect();
                assert_eq!(bindings, ours, "{at}");
                assert_eq!(bytes, entry.workgroup_bytes, "{at}");
                assert!(bytes <= 16_384, "{at}: {bytes} bytes of workgroup memory");
                assert!(entry.storage().count() <= 7, "{at}: too many storage buffers");
                for (position, b) in entry.bindings.iter().enumerate() {
                    assert_eq!(b.access == Access::Uniform, position == 0, "{at}: binding 0 is the uniform");
                }
                assert!(entry.uniform_size() % 16 == 0 && entry.uniform_size() <= 256, "{at}: uniform size");
            }
        }
    }

    #[test]
    fn a_manifest_is_json() {
        let text = shaders().unwrap().iter().find(|s| s.name == "gpu/probe").unwrap().manifest();
        assert!(text.contains("\"random_words\": {\"workgroup_size\": [64, 1, 1]"), "{text}");
        assert!(text.contains("[\"function\", \"u32\", 4]"), "{text}");
        assert_eq!(text.matches(['{', '[']).count(), text.matches(['}', ']']).count());
    }

    #[test]
    fn unknown_text_is_an_error_not_a_guess() {
        assert!(parse("x", "alias T = f32;").is_err());
        assert!(parse("x", "@group(0) @binding(0) var<storage> x: array<f32>;").is_err());
    }
}
