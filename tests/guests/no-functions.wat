;; Exports the interface as an instance without functions.
(component
  (instance $reload)
  (export "reloader:plugin/reload@0.1.0" (instance $reload))
)
