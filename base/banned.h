/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Included last by every .c file: functions that do not compile in this project.  After git's banned.h. */
#ifndef LIVEPOINT_BASE_BANNED_H
#define LIVEPOINT_BASE_BANNED_H

#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi atol atoll localtime gmtime ctime    \
	asctime

#endif
