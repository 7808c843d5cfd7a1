;; Exports the interface by its name, with nothing in it.
(component
  (instance $reload)
  (export "reloader:plugin/reload@0.1.0" (instance $reload))
)
