;; Component of another world: exports none of the plugin interfaces.
(component
  (core module $module (func (export "run")))
  (core instance $instance (instantiate $module))
  (func $run (canon lift (core func $instance "run")))
  (export "run" (func $run))
)
