//! Asks the C compiler for the offsets of the members of NGINX's structures, with the server's own headers and flags.
//!
//! The bindings of nginx-sys come from bindgen. bindgen computes the positions of bit fields itself, and its result
//! is not always that of C: since NGINX 1.29.3 an `in_port_t` stands before the bit fields of `ngx_http_request_t`,
//! and bindgen 0.72 is wrong by two bits there. So the module reads and writes bit fields at the positions that the C
//! compiler gives. For all other members, bindgen and the C compiler must agree.
//!
//! The probe is compiled and read, but never run. So this works in cross-compilation too.

use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection, ObjectSymbol};

const TABLE: &str = "src/nginx/members.txt";
/// Offsets and sizes of all ordinary members, and the sizes of the structures.
const PLACES: &str = "request_cpu_places";
/// The prefix of constants. A number follows it. Each constant is an object of a structure in which all bits of one bit
/// field are 1 and all other bits are 0.
const ONES: &str = "request_cpu_ones_";

/// A descriptor of a module that has only the values of `NGX_MODULE_V1`. Forks have values of their own there.
const INITIAL: &str = "request_cpu_initial";
/// The offsets of these members, which the module takes from there.
const INITIAL_AT: &str = "request_cpu_initial_at";
const INITIAL_MEMBERS: [&str; 3] = ["spare0", "spare1", "version"];
/// 1 if `ngx_log_error_core` is as in NGINX, 2 if it also takes the name of a source file, as in Angie; otherwise 0.
const LOG_FORM: &str = "request_cpu_log_form";

type Failure = Box<dyn Error>;

struct Structure {
    name: String,
    members: Vec<String>,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    least_width: u32,
    /// size of the unit in bytes; 0 means the smallest unit that holds the field
    unit: usize,
}

/// The position of a bit field in C: `width` bits from bit `shift` of the unit of `unit` bytes at `offset`.
struct Place {
    offset: usize,
    unit: usize,
    shift: u32,
    width: u32,
}

/// Writes layout.rs for src/nginx/bits.rs.
pub fn generate(features: &[&str]) -> Result<(), Failure> {
    println!("cargo::rerun-if-changed=build/layout.rs");
    println!("cargo::rerun-if-changed={TABLE}");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_INCLUDE");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_BUILD_DIR");
    let structures = parse(&fs::read_to_string(TABLE)?, features)?;
    // nginx-sys may not make its bindings again when a header changes. The comparison finds that.
    for include in env::split_paths(&env::var_os("DEP_NGINX_INCLUDE").unwrap_or_default()) {
        if include.components().any(|part| part.as_os_str() == "src") {
            println!("cargo::rerun-if-changed={}", include.display());
        }
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let probe = out.join("layout.c");
    fs::write(&probe, probe_source(&structures))?;
    let answer = compile(&probe)?;
    let answer = Answer::new(&answer)?;
    fs::write(out.join("layout.rs"), rust_source(&structures, &answer)?)?;
    println!("cargo::rustc-check-cfg=cfg(log_names_file)");
    match answer.bytes(LOG_FORM)?.first() {
        Some(1) => Ok(()),
        Some(2) => {
            println!("cargo::rustc-cfg=log_names_file");
            Ok(())
        }
        _ => Err("ngx_log_error_core of this server takes parameters that the module does not know".into()),
    }
}

fn parse(table: &str, features: &[&str]) -> Result<Vec<Structure>, Failure> {
    let mut structures: Vec<Structure> = Vec::new();
    let mut wanted = true;
    for (at, line) in table.lines().enumerate() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace().peekable();
        let feature = words.next_if(|word| word.starts_with('['));
        let has = feature.is_none_or(|word| features.contains(&word.trim_matches(['[', ']'])));
        let Some(first) = words.peek() else { continue };
        if !line.starts_with(' ') {
            wanted = has;
            if wanted {
                structures.push(Structure { name: (*first).to_owned(), members: vec![], fields: vec![] });
            }
            continue;
        }
        if !has || !wanted {
            continue;
        }
        let structure = structures.last_mut().ok_or("the table begins with a member")?;
        for word in words {
            let Some((name, width)) = word.split_once(':') else {
                structure.members.push(word.to_owned());
                continue;
            };
            let (width, unit) = width.split_once('/').unwrap_or((width, "0"));
            let wrong = |_| format!("{TABLE}:{}: \"{word}\" is no NAME:WIDTH or NAME:WIDTH/BYTES", at + 1);
            structure.fields.push(Field {
                name: name.to_owned(),
                least_width: width.parse().map_err(wrong)?,
                unit: unit.parse().map_err(wrong)?,
            });
        }
    }
    Ok(structures)
}

fn probe_source(structures: &[Structure]) -> String {
    let mut text = String::from("#include <ngx_config.h>\n#include <ngx_core.h>\n#include <ngx_http.h>\n\n");
    let _ = writeln!(text, "const unsigned long long {PLACES}[] = {{");
    for Structure { name, members, .. } in structures {
        for member in members {
            let member = c_name(member);
            let _ = writeln!(text, "    offsetof({name}, {member}), sizeof((({name} *) 0)->{member}),");
        }
        let _ = writeln!(text, "    sizeof({name}),");
    }
    text += "};\n\n";
    text += &initial_source();
    let fields = structures.iter().flat_map(|its| its.fields.iter().map(move |field| (its, field)));
    for (at, (structure, field)) in fields.enumerate() {
        let _ = writeln!(text, "const {} {ONES}{at} = {{ .{} = -1 }};", structure.name, c_name(&field.name));
    }
    text
}

/// The module's descriptor as each C module begins it, and whether `ngx_log_error_core` takes the name of a file.
fn initial_source() -> String {
    let at = INITIAL_MEMBERS.map(|name| format!("offsetof(ngx_module_t, {name})")).join(", ");
    format!(
        "const ngx_module_t {INITIAL} = {{ NGX_MODULE_V1 }};\n\
         const unsigned long long {INITIAL_AT}[] = {{ {at} }};\n\
         const unsigned char {LOG_FORM} = __builtin_types_compatible_p(__typeof__(ngx_log_error_core),\n    \
             void (ngx_uint_t, ngx_log_t *, const char *, ngx_err_t, const char *, ...)) ? 2\n    \
             : __builtin_types_compatible_p(__typeof__(ngx_log_error_core),\n    \
             void (ngx_uint_t, ngx_log_t *, ngx_err_t, const char *, ...));\n\n"
    )
}

/// bindgen adds a `_` to names that are Rust's keywords.
fn c_name(member: &str) -> &str {
    member.strip_suffix('_').unwrap_or(member)
}

/// Compiles the probe. Returns the object file.
fn compile(probe: &Path) -> Result<Vec<u8>, Failure> {
    let includes = env::var_os("DEP_NGINX_INCLUDE").ok_or("nginx-sys tells no DEP_NGINX_INCLUDE")?;
    let build = env::var("DEP_NGINX_BUILD_DIR").map_err(|_| "nginx-sys tells no DEP_NGINX_BUILD_DIR")?;
    let mut compiler = cc::Build::new();
    compiler
        .includes(env::split_paths(&includes))
        .flags(flags_of(&fs::read_to_string(Path::new(&build).join("Makefile"))?))
        // the object must contain plain data, not the intermediate code of link-time optimisation
        .flag_if_supported("-fno-lto")
        .cargo_metadata(false)
        .warnings(false)
        .opt_level(0)
        .file(probe);
    let objects = compiler.try_compile_intermediates().map_err(|error| {
        format!(
            "the C compiler cannot tell where the members of NGINX's structures are, since it does not compile {}: \
             its messages are above. Either a member in {TABLE} does not exist in this server, or its headers do not \
             compile here. {error}",
            probe.display()
        )
    })?;
    let object = objects.first().ok_or("the C compiler has made no object")?;
    Ok(fs::read(object)?)
}

/// The compiler flags of NGINX that can change its headers or the layout of its structures.
fn flags_of(makefile: &str) -> Vec<String> {
    let line = makefile.lines().find_map(|line| line.strip_prefix("CFLAGS ="));
    let words = shlex::split(line.unwrap_or_default()).unwrap_or_default();
    let mut flags = vec![];
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let alone = ["-D", "-U", "-I", "-include"].contains(&word.as_str());
        let starts = ["-D", "-U", "-I", "-m", "-std=", "-fpack-struct", "-fshort-", "-fno-short-", "-fms-"];
        if alone {
            flags.push(word);
            flags.extend(words.next());
        } else if starts.iter().any(|start| word.starts_with(start)) {
            flags.push(word);
        }
    }
    flags
}

struct Answer<'a> {
    object: object::File<'a>,
}

impl<'a> Answer<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Failure> {
        let object = object::File::parse(bytes).map_err(|error| {
            format!(
                "the C compiler has made no object file that can be read ({error}); without -flto in CFLAGS it may"
            )
        })?;
        Ok(Answer { object })
    }

    /// The bytes of one constant of the probe, from its start to the end of its section or to `size`.
    fn bytes(&self, name: &str) -> Result<&'a [u8], Failure> {
        let found = self.object.symbols().find(|symbol| symbol.name() == Ok(name));
        let symbol = found.ok_or_else(|| format!("the probe's object has no {name}"))?;
        let section =
            self.object.section_by_index(symbol.section_index().ok_or("a symbol has no section")?)?;
        let start = usize::try_from(symbol.address() - section.address())?;
        let end = start + usize::try_from(symbol.size())?;
        section.data()?.get(start..end).ok_or_else(|| format!("{name} is not in its section").into())
    }

    fn numbers(&self, name: &str) -> Result<Vec<u64>, Failure> {
        Ok(self.bytes(name)?.chunks_exact(8).map(|chunk| self.number(chunk)).collect())
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        let bytes = bytes.try_into().unwrap_or([0; 8]);
        if self.object.is_little_endian() { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) }
    }

    /// The value of a member of the descriptor, at its offset in C.
    fn initial(&self, at: u64) -> Result<u64, Failure> {
        let at = usize::try_from(at)?;
        let bytes = self.bytes(INITIAL)?.get(at..at + 8).ok_or("the descriptor of modules is too short")?;
        Ok(self.number(bytes))
    }

    fn place(&self, at: usize, field: &Field, structure: &str) -> Result<Place, Failure> {
        let what = format!("bit field {structure}.{}", field.name);
        if !self.object.is_little_endian() {
            return Err("bit fields are only known for processors that store the low byte first".into());
        }
        let bytes = self.bytes(&format!("{ONES}{at}"))?;
        let is_set = |bit: usize| bytes[bit / 8] >> (bit % 8) & 1 == 1;
        let ones: Vec<usize> = (0..bytes.len() * 8).filter(|&bit| is_set(bit)).collect();
        let (Some(&first), Some(&last)) = (ones.first(), ones.last()) else {
            return Err(format!("{what} has no bits").into());
        };
        let width = u32::try_from(last + 1 - first)?;
        if ones.len() != last + 1 - first {
            return Err(format!("the bits of {what} are not in one piece").into());
        }
        if width < field.least_width {
            return Err(format!(
                "{what} has {width} bits in this server, and the module needs at least {}: \
                 this version of NGINX is not supported yet. Please report it with the output of `nginx -V`",
                field.least_width
            )
            .into());
        }
        // the unit is aligned, as in C: no read crosses a cache line
        let units = [1, 2, 4, 8].into_iter().filter(|&unit| unit >= field.unit);
        let mut fitting = units.filter(|unit| first / 8 / unit == last / 8 / unit);
        let unit = fitting.next().ok_or_else(|| format!("{what} does not fit into 8 aligned bytes"))?;
        let offset = first / 8 / unit * unit;
        if offset + unit > bytes.len() {
            return Err(format!("{what} is at the end of the structure").into());
        }
        Ok(Place { offset, unit, shift: u32::try_from(first - offset * 8)?, width })
    }
}

fn rust_source(structures: &[Structure], answer: &Answer) -> Result<String, Failure> {
    let mut text = String::from("// made by build/layout.rs from what the C compiler says\n\n");
    let numbers = answer.numbers(PLACES)?;
    let mut numbers = numbers.iter();
    let mut next = || numbers.next().ok_or("the probe's object has too few numbers");
    text += "const PLACES: &[Member] = &[\n";
    for Structure { name, members, .. } in structures {
        for member in members {
            let (offset, size, c) = (next()?, next()?, c_name(member));
            let _ = writeln!(
                text,
                "    Member {{ name: \"{name}.{c}\", c: ({offset}, {size}), bindings: \
                 (offset_of!(nginx_sys::{name}, {member}), size_of_member(|of: &nginx_sys::{name}| &of.{member})) }},"
            );
        }
        let size = next()?;
        let _ = writeln!(
            text,
            "    Member {{ name: \"{name}\", c: (0, {size}), bindings: (0, size_of::<nginx_sys::{name}>()) }},"
        );
    }
    text += "];\n";
    text += "\n/// Values that each module's descriptor begins with (`NGX_MODULE_V1`).\npub mod initial {\n";
    for (member, at) in INITIAL_MEMBERS.iter().zip(answer.numbers(INITIAL_AT)?) {
        let (constant, value) = (member.to_uppercase(), answer.initial(at)?);
        let _ = writeln!(text, "    pub const {constant}: usize = {value};");
    }
    text += "}\n";
    let mut at = 0;
    for Structure { name, fields, .. } in structures.iter().filter(|its| !its.fields.is_empty()) {
        let short = name.trim_start_matches("ngx_").trim_start_matches("http_").trim_end_matches("_t");
        let _ =
            writeln!(text, "\n/// Bit fields of `{name}`.\npub mod {short} {{\n    use super::BitField;\n");
        for field in fields {
            let Place { offset, unit, shift, width } = answer.place(at, field, name)?;
            at += 1;
            let (constant, kind) = (field.name.to_uppercase(), format!("u{}", unit * 8));
            let _ = writeln!(
                text,
                "    /// `{}`, {width} bits\n    pub const {constant}: BitField<nginx_sys::{name}, {kind}> = \
                 BitField::<nginx_sys::{name}, {kind}>::new({offset}, {shift}, {width});",
                field.name
            );
        }
        text += "}\n";
    }
    Ok(text)
}
