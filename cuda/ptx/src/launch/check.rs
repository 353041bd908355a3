//! What a launch file says, held against itself and against the PTX.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::LaunchError;
use super::{Contents, FieldSpec, LaunchFile, LaunchSpec, MapSpec, Value};
use crate::exec::module::Module;
use crate::tensor_map::{MAP_ALIGN, TensorMap};

/// The modules of a launch file: parsed, and their text.
pub(super) type Modules = BTreeMap<PathBuf, (Arc<Module>, String)>;

impl MapSpec {
    /// The tensor map, with its buffer at `address`.
    pub(super) fn at(&self, address: u64) -> TensorMap {
        TensorMap {
            element: self.dtype,
            address: address.wrapping_add(self.offset),
            dims: self.dims.clone(),
            strides: self.strides_bytes.clone(),
            box_dims: self.box_dims.clone(),
            element_strides: self.element_strides.clone(),
            interleave: self.interleave,
            swizzle: self.swizzle,
            l2_promotion: self.l2_promotion,
            oob_fill: self.oob_fill,
        }
    }
}

/// Bytes of a module's variable.
pub(super) fn variable(module: &Module, name: &str) -> Option<u64> {
    module.variables().find(|v| v.0 == name).map(|v| v.1)
}

impl LaunchFile {
    fn error(&self, key: &str, message: String) -> LaunchError {
        LaunchError::Field { file: self.path.clone(), key: key.into(), message }
    }

    /// The launches, each with the start of its keys.
    fn keyed(&self) -> impl Iterator<Item = (String, &LaunchSpec)> {
        let one = self.launches.len() == 1;
        let key = move |i| if one { String::new() } else { format!("launches[{i}].") };
        self.launches.iter().enumerate().map(move |(i, launch)| (key(i), launch))
    }

    /// Every buffer and tensor map that is used exists.
    pub(super) fn check_names(&self) -> Result<(), LaunchError> {
        let buffer = |key: &str, name: &String| match self.buffers.contains_key(name) {
            true => Ok(()),
            false => Err(self.error(key, format!("no buffer is called {name:?}"))),
        };
        self.each_value(&|key, value| match value {
            Value::Buffer { buffer: name, .. } => buffer(key, name),
            Value::TensorMap(name) | Value::TensorMapPointer(name) if !self.tensor_maps.contains_key(name) => {
                Err(self.error(key, format!("no tensor map is called {name:?}")))
            }
            _ => Ok(()),
        })?;
        for (name, map) in &self.tensor_maps {
            buffer(&format!("tensor_maps.{name}"), &map.buffer)?;
        }
        self.dump.keys().try_for_each(|name| buffer(&format!("dump.{name}"), name))?;
        self.compare.keys().try_for_each(|name| buffer(&format!("compare.{name}"), name))
    }

    /// Visits every value with its key.
    fn each_value(&self, visit: &dyn Fn(&str, &Value) -> Result<(), LaunchError>) -> Result<(), LaunchError> {
        type Visit<'a> = &'a dyn Fn(&str, &Value) -> Result<(), LaunchError>;
        fn fields(key: &str, contents: &Contents, visit: Visit<'_>) -> Result<(), LaunchError> {
            contents.fields.iter().enumerate().try_for_each(|(i, f)| one(&format!("{key}.fields[{i}]"), &f.value, visit))
        }
        fn one(key: &str, value: &Value, visit: Visit<'_>) -> Result<(), LaunchError> {
            visit(key, value)?;
            match value {
                Value::Struct(contents) => fields(&format!("{key}.struct"), contents, visit),
                _ => Ok(()),
            }
        }
        for (section, all) in [("buffers", &self.buffers), ("variables", &self.variables)] {
            all.iter().try_for_each(|(name, c)| fields(&format!("{section}.{name}"), c, visit))?;
        }
        for (key, launch) in self.keyed() {
            launch.args.iter().enumerate().try_for_each(|(i, v)| one(&format!("{key}args[{i}]"), v, visit))?;
            launch.variables.iter().try_for_each(|(name, c)| fields(&format!("{key}variables.{name}"), c, visit))?;
        }
        Ok(())
    }

    /// Everything fits where it is put. The contents are loaded.
    pub(super) fn check(&self, modules: &Modules) -> Result<(), LaunchError> {
        self.check_names()?;
        for (name, contents) in &self.buffers {
            self.check_contents(&format!("buffers.{name}"), contents, contents.len().unwrap_or(0))?;
        }
        for (name, contents) in &self.variables {
            let key = format!("variables.{name}");
            let sizes: Vec<u64> = modules.values().filter_map(|(module, _)| variable(module, name)).collect();
            if sizes.is_empty() {
                return Err(self.error(&key, format!("no module has a variable {name:?}")));
            }
            sizes.into_iter().try_for_each(|size| self.check_contents(&key, contents, size))?;
        }
        for (key, launch) in self.keyed() {
            self.check_launch(&key, launch, &modules[&launch.ptx].0)?;
        }
        self.each_value(&|key, value| match value {
            Value::Buffer { buffer, offset } if self.buffers[buffer].len().is_some_and(|len| *offset > len) => {
                Err(self.error(key, format!("offset {offset} lies beyond buffer {buffer:?}")))
            }
            Value::Variable { variable: name, .. } if !modules.values().any(|(m, _)| variable(m, name).is_some()) => {
                Err(self.error(key, format!("no module has a variable {name:?}")))
            }
            _ => Ok(()),
        })
    }

    /// The arguments are the kernel's parameters, and the variables those of its module.
    fn check_launch(&self, key: &str, launch: &LaunchSpec, module: &Module) -> Result<(), LaunchError> {
        let LaunchSpec { ptx, entry, args, variables, .. } = launch;
        let Some(params) = module.params(entry) else {
            let known: Vec<&str> = module.kernels().collect();
            let message = format!("{} has no kernel {entry:?}; it has {}", ptx.display(), known.join(", "));
            return Err(self.error(&format!("{key}entry"), message));
        };
        if params.len() != args.len() {
            let message = format!("{entry} takes {} parameters, found {}", params.len(), args.len());
            return Err(self.error(&format!("{key}args"), message));
        }
        for (i, (param, arg)) in params.iter().zip(args).enumerate() {
            let key = format!("{key}args[{i}]");
            if let Value::Struct(contents) = arg {
                self.check_contents(&key, contents, contents.len().unwrap_or(param.size.into()))?;
            }
            let argument = arg.argument(param.size, &|value| vec![0; value.size() as usize]);
            argument.fits(param).map_err(|e| self.error(&key, format!("parameter {i} of {entry}: {e}")))?;
        }
        for (name, contents) in variables {
            let key = format!("{key}variables.{name}");
            let Some(size) = variable(module, name) else {
                let known: Vec<&str> = module.variables().map(|v| v.0).collect();
                let message = format!("{} has no variable of this name; it has {}", ptx.display(), known.join(", "));
                return Err(self.error(&key, message));
            };
            self.check_contents(&key, contents, size)?;
        }
        Ok(())
    }

    /// The source and every field lie within so many bytes.
    fn check_contents(&self, key: &str, contents: &Contents, size: u64) -> Result<(), LaunchError> {
        let most = contents.len().unwrap_or(0).max(contents.base().map_or(0, |base| base.len() as u64));
        if most > size {
            return Err(self.error(key, format!("{most} bytes, and there is room for {size}")));
        }
        for (i, FieldSpec { at, value }) in contents.fields.iter().enumerate() {
            let error = |message| Err(self.error(&format!("{key}.fields[{i}]"), message));
            match value {
                Value::Struct(_) => return error("a field is no struct; its fields can stand here".to_string()),
                Value::TensorMap(_) if !at.is_multiple_of(MAP_ALIGN) => {
                    return error(format!("a tensor map lies at a multiple of {MAP_ALIGN} bytes, not at {at}"));
                }
                _ if at.checked_add(value.size()).is_none_or(|end| end > size) => {
                    return error(format!("{} bytes at {at} leave the {size} that there are", value.size()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
