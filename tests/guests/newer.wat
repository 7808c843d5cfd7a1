;; A plugin for an interface that will be there one day.
(component
  (instance $reload)
  (export "reloader:plugin/reload@0.2.0" (instance $reload))
)
