;; Exports the functions of the interface with other types.
(component
  (core module $module
    (func (export "open"))
    (func (export "reload") (result i32) (i32.const 7)))
  (core instance $instance (instantiate $module))
  (func $open (canon lift (core func $instance "open")))
  (func $reload (result u32) (canon lift (core func $instance "reload")))
  (instance $exports (export "open" (func $open)) (export "reload" (func $reload)))
  (export "reloader:plugin/reload@0.1.0" (instance $exports))
)
