@program@
