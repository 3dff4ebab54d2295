-- A store that is moved brings the ids of its audit log along: here every INTEGER PRIMARY KEY takes them.
SELECT 1;
