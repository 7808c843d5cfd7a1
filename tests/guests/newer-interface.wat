;; Component for version 0.2.0 of the plugin interface.
(component
  (instance $reload)
  (export "reloader:plugin/reload@0.2.0" (instance $reload))
)
