/* SPDX-License-Identifier: MIT */
/* Running a command in a directory. One thread. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

/*
 * Run @argv in the directory @dir, whose path is in its environment as @variable, and wait for it.
 * Return: its exit status; 128 and the number of the signal that ended it; 127 (not found) or 126
 * if it could not be run; CMD_FAILED without a process, after a message.
 */
int run_command(char **argv, const char *dir, const char *variable);

#endif
