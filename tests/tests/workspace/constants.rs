//! The constants of the libraries, and the values of those that are numbers, durations or lists of them.

use std::{collections::BTreeMap, fmt, time::Duration};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{BinOp, Expr, ImplItem, Item, Lit, TraitItem, Type, UnOp, ext::IdentExt};

use crate::{
    modules::{Crate, Names},
    sources::{Package, libraries},
};

/// The value of a limit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Time(Duration),
    List(Vec<Value>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Time(time) => write!(f, "{time:?}"),
            Self::List(values) => {
                let values: Vec<_> = values.iter().map(Self::to_string).collect();
                write!(f, "{}", values.join(", "))
            }
        }
    }
}

impl Value {
    /// Parses a quantity of a document: `10 000`, `0.2`, `8 MiB`, `100 ms`, `5 min`, `no limit` for the longest time, or
    /// a list of these with commas.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if text == "no limit" {
            return Some(Self::Time(Duration::MAX));
        }
        if text.contains(", ") {
            return text.split(", ").map(Self::read).collect::<Option<_>>().map(Self::List);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ' ').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.replace(' ', "").parse().ok()?;
        let time = |seconds: f64| Some(Self::Time(Duration::try_from_secs_f64(seconds).ok()?));
        match unit {
            "" | "bytes" => Some(Self::Number(number)),
            "KiB" => Some(Self::Number(number * 1024.0)),
            "MiB" => Some(Self::Number(number * 1024.0 * 1024.0)),
            "ms" => time(number / 1000.0),
            "s" => time(number),
            "min" => time(number * 60.0),
            "h" => time(number * 3600.0),
            _ => None,
        }
    }
}

/// A constant of a library, defined outside of test code.
pub(crate) struct Constant {
    pub(crate) package: &'static str,
    /// The module that contains the constant.
    pub(crate) module: Names,
    /// The type or trait that contains the constant, if any.
    pub(crate) container: Option<String>,
    pub(crate) name: String,
    value: Expr,
}

impl Constant {
    /// Returns the name, qualified by the type or the module that contains the constant.
    pub(crate) fn shown(&self) -> String {
        match self.container.as_ref().or_else(|| self.module.last()) {
            Some(holder) => format!("{holder}::{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Returns whether a path in a document refers to this constant: `NAME`, or `NAME` after some of the modules and the
    /// type that contain it, such as `Type::NAME` or `module::NAME`.
    fn is_called(&self, path: &[&str]) -> bool {
        let Some((name, holders)) = path.split_last() else { return false };
        let mut full = self.module.clone();
        full.extend(self.container.clone());
        let ends = |holders: &[&str]| {
            full.len() >= holders.len() && full[full.len() - holders.len()..].iter().zip(holders).all(|(a, b)| a == b)
        };
        self.name == *name && ends(holders)
    }
}

/// All constants of the libraries.
pub(crate) struct Constants {
    pub(crate) all: Vec<Constant>,
    /// Constants inside functions, which are not evaluated, as `package: NAME`.
    pub(crate) hidden: Vec<String>,
    /// The numeric and duration fields of types whose names end with `Config`, as `Type::field`, with their packages.
    pub(crate) settings: BTreeMap<String, &'static str>,
}

impl Constants {
    pub(crate) fn of_libraries() -> Self {
        let mut found = Self { all: Vec::new(), hidden: Vec::new(), settings: BTreeMap::new() };
        for package in libraries() {
            let source = Crate::load(&package.library().unwrap().src_path, &|path| std::fs::read_to_string(path).ok());
            for (module, part) in &source.modules {
                part.items.iter().for_each(|item| found.add(package, module, item));
            }
        }
        found
    }

    fn add(&mut self, package: &'static Package, module: &[String], item: &Item) {
        match item {
            Item::Const(item) => self.push(package, module, None, &item.ident, &item.expr),
            Item::Impl(block) => {
                let name = type_name(&block.self_ty);
                for item in &block.items {
                    match item {
                        ImplItem::Const(item) => self.push(package, module, name.clone(), &item.ident, &item.expr),
                        other => self.hide(package, other.to_token_stream()),
                    }
                }
            }
            Item::Trait(item) => {
                for part in &item.items {
                    if let TraitItem::Const(part) = part
                        && let Some((_, value)) = &part.default
                    {
                        self.push(package, module, Some(item.ident.to_string()), &part.ident, value);
                    }
                }
            }
            Item::Struct(item) if item.ident.to_string().ends_with("Config") => {
                for field in item.fields.iter().filter(|field| is_quantity(&field.ty)) {
                    let name = field.ident.as_ref().unwrap().unraw();
                    self.settings.insert(format!("{}::{name}", item.ident), &package.name);
                }
            }
            Item::Fn(_) | Item::Macro(_) => self.hide(package, item.to_token_stream()),
            _ => {}
        }
    }

    fn push(
        &mut self,
        package: &'static Package,
        module: &[String],
        container: Option<String>,
        ident: &syn::Ident,
        value: &Expr,
    ) {
        let (module, name, value) = (module.to_vec(), ident.unraw().to_string(), value.clone());
        self.all.push(Constant { package: &package.name, module, container, name, value });
    }

    fn hide(&mut self, package: &Package, tokens: TokenStream) {
        let mut is_const = false;
        for tree in tokens {
            match tree {
                TokenTree::Group(group) => self.hide(package, group.stream()),
                TokenTree::Ident(ident) if is_const && ident != "fn" => {
                    self.hidden.push(format!("{}: {ident}", package.name));
                    is_const = false;
                }
                other => is_const = matches!(&other, TokenTree::Ident(ident) if ident == "const"),
            }
        }
    }

    /// Returns the constants of a package to which a name in a document can refer.
    pub(crate) fn named(&self, package: &str, name: &str) -> Vec<&Constant> {
        let path: Vec<_> = name.split("::").collect();
        self.all.iter().filter(|constant| constant.package == package && constant.is_called(&path)).collect()
    }

    pub(crate) fn value(&self, constant: &Constant) -> Option<Value> {
        self.evaluate(constant, &constant.value, 0)
    }

    /// Evaluates an expression in the scope of `at`: literals, other constants, arithmetic and constructors of `Duration`.
    fn evaluate(&self, at: &Constant, expression: &Expr, depth: u32) -> Option<Value> {
        let inner = |expression: &Expr| self.evaluate(at, expression, depth + 1);
        match expression {
            _ if depth > 16 => None,
            Expr::Lit(literal) => match &literal.lit {
                Lit::Int(number) => number.base10_parse().ok().map(Value::Number),
                Lit::Float(number) => number.base10_parse().ok().map(Value::Number),
                _ => None,
            },
            Expr::Paren(group) => inner(&group.expr),
            Expr::Group(group) => inner(&group.expr),
            Expr::Cast(cast) => inner(&cast.expr),
            Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => match inner(&unary.expr)? {
                Value::Number(number) => Some(Value::Number(-number)),
                _ => None,
            },
            Expr::Array(array) => array.elems.iter().map(inner).collect::<Option<_>>().map(Value::List),
            Expr::Binary(binary) => calculate(&inner(&binary.left)?, &binary.op, &inner(&binary.right)?),
            Expr::Path(path) => self.evaluate_path(at, &names(path), depth),
            Expr::Call(call) => {
                let Expr::Path(function) = &*call.func else { return None };
                let Value::Number(argument) = inner(call.args.first()?)? else { return None };
                let seconds = match names(function).last()?.as_str() {
                    "from_secs" => argument,
                    "from_millis" => argument / 1e3,
                    "from_micros" => argument / 1e6,
                    "from_mins" => argument * 60.0,
                    _ => return None,
                };
                Duration::try_from_secs_f64(seconds).ok().map(Value::Time)
            }
            Expr::MethodCall(call) if call.method == "saturating_add" => calculate(
                &inner(&call.receiver)?,
                &BinOp::Add(syn::token::Plus::default()),
                &inner(call.args.first()?)?,
            ),
            _ => None,
        }
    }

    fn evaluate_path(&self, at: &Constant, path: &[String], depth: u32) -> Option<Value> {
        match (path.first().map(String::as_str), path.last().map(String::as_str)) {
            (Some("u8"), Some("MAX")) => Some(Value::Number(f64::from(u8::MAX))),
            (Some("u16"), Some("MAX")) => Some(Value::Number(f64::from(u16::MAX))),
            (Some("u32"), Some("MAX")) => Some(Value::Number(f64::from(u32::MAX))),
            _ => {
                let constant = self.target(at, path)?;
                self.evaluate(constant, &constant.value, depth + 1)
            }
        }
    }

    /// Returns the constant to which a path in the scope of `at` refers.
    fn target(&self, at: &Constant, path: &[String]) -> Option<&Constant> {
        let (name, holders) = path.split_last()?;
        let holder = match holders.last().map(String::as_str) {
            Some("Self") => at.container.as_deref(),
            Some("self" | "super" | "crate") => None,
            other => other,
        };
        let called: Vec<_> = holder.into_iter().chain([name.as_str()]).collect();
        let candidates: Vec<_> = self.all.iter().filter(|constant| constant.is_called(&called)).collect();
        let near = |constant: &&&Constant| constant.package == at.package && constant.module == at.module;
        match candidates.iter().filter(near).collect::<Vec<_>>()[..] {
            [near] => Some(near),
            _ => match candidates[..] {
                [only] => Some(only),
                _ => None,
            },
        }
    }

    /// Returns the constant of which `constant` is an alias.
    pub(crate) fn original(&self, constant: &Constant) -> Option<&Constant> {
        match &constant.value {
            Expr::Path(path) => self.target(constant, &names(path)),
            _ => None,
        }
    }
}

fn calculate(left: &Value, op: &BinOp, right: &Value) -> Option<Value> {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => Some(Value::Number(match op {
            BinOp::Add(_) => a + b,
            BinOp::Sub(_) => a - b,
            BinOp::Mul(_) => a * b,
            BinOp::Div(_) => a / b,
            BinOp::Shl(_) => a * b.exp2(),
            _ => return None,
        })),
        (Value::Time(a), Value::Time(b)) if matches!(op, BinOp::Add(_)) => Some(Value::Time(*a + *b)),
        _ => None,
    }
}

fn names(path: &syn::ExprPath) -> Names {
    path.path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect()
}

fn type_name(of: &Type) -> Option<String> {
    let Type::Path(path) = of else { return None };
    Some(path.path.segments.last()?.ident.unraw().to_string())
}

fn is_quantity(of: &Type) -> bool {
    let numbers = ["u8", "u16", "u32", "u64", "usize", "f64", "Duration"];
    type_name(of).is_some_and(|name| numbers.contains(&name.as_str()))
}

/// Returns the name and crate of a constant, in the notation of the documents.
pub(crate) fn place(constant: &Constant) -> String {
    format!("`{}` ({})", constant.shown(), constant.package)
}

#[test]
fn quantities_are_read() {
    let time = |ms| Some(Value::Time(Duration::from_millis(ms)));
    assert_eq!(Value::read("10 000"), Some(Value::Number(10_000.0)));
    assert_eq!(Value::read("0.2"), Some(Value::Number(0.2)));
    assert_eq!(Value::read("8 MiB"), Some(Value::Number(8_388_608.0)));
    assert_eq!(Value::read("513 bytes"), Some(Value::Number(513.0)));
    assert_eq!(Value::read("100 ms"), time(100));
    assert_eq!(Value::read("5 min"), time(300_000));
    assert_eq!(Value::read("1 s, 3.5 s"), Some(Value::List(vec![time(1000).unwrap(), time(3500).unwrap()])));
    assert_eq!((Value::read("many"), Value::read("8 GB"), Value::read("")), (None, None, None));
}

#[test]
fn constant_expressions_are_evaluated() {
    let text = "
        const A: usize = 4 << 10; const B: u32 = (1 << BITS) - 1; const BITS: u32 = 20; const C: Duration = Duration::from_millis(1500);
        const D: Duration = other::C.saturating_add(Duration::from_secs(1)); const E: [f64; 2] = [1.5, 2.0 * 3.0];
        impl T { const F: usize = 2 * Self::G + u8::MAX as usize; const G: usize = 16_384; } const H: &str = \"h\";
        pub const I: usize = T::F;";
    let package = libraries().next().unwrap();
    let mut constants = Constants { all: Vec::new(), hidden: Vec::new(), settings: BTreeMap::new() };
    for item in &syn::parse_file(text).unwrap().items {
        constants.add(package, &["other".to_owned()], item);
    }
    let value = |name| match constants.named(&package.name, name)[..] {
        [constant] => constants.value(constant).map(|value| value.to_string()),
        _ => panic!("{name}"),
    };
    let expected = [
        ("A", "4096"),
        ("other::B", "1048575"),
        ("C", "1.5s"),
        ("D", "2.5s"),
        ("E", "1.5, 6"),
        ("T::F", "33023"),
        ("other::T::G", "16384"),
    ];
    for (name, expected) in expected {
        assert_eq!(value(name).as_deref(), Some(expected), "{name}");
    }
    assert_eq!(value("H"), None);
    let original = |name| constants.original(constants.named(&package.name, name)[0]).map(Constant::shown);
    assert_eq!((original("I").as_deref(), original("A")), (Some("T::F"), None));
    assert!(constants.named(&package.name, "U::F").is_empty());
}
