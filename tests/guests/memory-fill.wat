;; Grows its memory to the limit, then fills it in an infinite loop. A single `memory.fill` cannot
;; be interrupted.
(module
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/reload@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/reload@0.1.0#reload") (param i32 i32 i32) (result i32)
    (loop $grow
      (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (loop $again
      (memory.fill
        (i32.const 0) (i32.const 7) (i32.mul (memory.size) (i32.const 65536)))
      (br $again))
    (i32.const 64))
)
