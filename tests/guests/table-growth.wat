;; Infinite loop of `table.grow` by one element; traps when it fails.
(module
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/reload@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (table $table 1 funcref)
  (func (export "reloader:plugin/reload@0.1.0#reload") (param i32 i32 i32) (result i32)
    (loop $again
      (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 1)) (i32.const -1))))
    unreachable)
)
